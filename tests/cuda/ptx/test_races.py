"""The stamps kept for each granule find exactly the same conflicts as a list of all accesses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptx.races import AccessHistory, stamp
from ptx.registers import Violation

BASE, SIZE = 1006, 18  # neither a multiple of 4 nor of 8
THREADS = [(block, thread) for block in (0, 1) for thread in (0, 1, 31, 32, 70)]


class Access:
    def __init__(self, who, barriers, warp_barriers, is_store, address, width):
        self.who, self.barriers, self.warp_barriers = who, barriers, warp_barriers
        self.is_store, self.bytes = is_store, set(range(address, address + width))

    def conflicts(self, earlier: "Access") -> bool:
        if not (self.is_store or earlier.is_store) or not self.bytes & earlier.bytes or self.who == earlier.who:
            return False
        if self.who[0] != earlier.who[0]:
            return True
        same_warp = self.who[1] // 32 == earlier.who[1] // 32
        in_order_in_warp = same_warp and earlier.warp_barriers < self.warp_barriers
        return earlier.barriers == self.barriers and not in_order_in_warp


def addresses(width: int) -> list[int]:
    return [address for address in range(BASE, BASE + SIZE - width + 1) if address % width == 0]


access = st.sampled_from([1, 2, 4, 8]).flatmap(
    lambda width: st.tuples(
        st.just(width),
        st.booleans(),
        # Address of each thread that takes part.
        st.dictionaries(st.sampled_from(THREADS), st.sampled_from(addresses(width)), min_size=1),
    )
)
block_barrier = st.tuples(st.just("block"), st.sampled_from([0, 1]))
warp_barrier = st.tuples(st.just("warp"), st.sampled_from([(block, warp) for block in (0, 1) for warp in (0, 1, 2)]))


@settings(max_examples=100)
@given(st.lists(st.one_of(access, access, block_barrier, warp_barrier), max_size=14))
def test_conflicts_match_those_of_all_pairs_of_accesses(events):
    history, past = AccessHistory(BASE, SIZE), []
    barriers, warp_barriers = {0: 0, 1: 0}, {(block, warp): 0 for block in (0, 1) for warp in (0, 1, 2)}
    for event in events:
        if event[0] == "block":
            barriers[event[1]] += 1
            warp_barriers |= {key: 0 for key in warp_barriers if key[0] == event[1]}
            continue
        if event[0] == "warp":
            warp_barriers[event[1]] += 1
            continue
        width, is_store, addresses_of = event
        now = [
            Access((b, t), barriers[b], warp_barriers[b, t // 32], is_store, address, width)
            for (b, t), address in addresses_of.items()
        ]
        expected = any(one.conflicts(other) for i, one in enumerate(now) for other in past + now[:i])
        stamps = np.array([stamp(one.who[0], one.barriers, one.warp_barriers, one.who[1]) for one in now])
        where = np.array(list(addresses_of.values()), np.uint64)
        try:
            if is_store:
                history.store(where, width, stamps)
            else:
                history.load(where, width, stamps, read_only=False)
            found = False
        except Violation:
            found = True
        assert found == expected
        if found:
            return
        past += now


def test_simultaneous_loads_are_all_recorded():
    threads = np.arange(70)
    for storing in 0, 40, 69:
        history = AccessHistory(0, 8)
        history.load(np.zeros(70, np.uint64), 8, stamp(0, 0, 0, threads), False)
        with pytest.raises(Violation, match="stores to an address that threads of several warps of this block loaded"):
            history.store(np.zeros(1, np.uint64), 8, stamp(0, 0, 0, threads[storing : storing + 1]))
    for storing in 0, 1:
        history = AccessHistory(0, 8)
        history.load(np.zeros(2, np.uint64), 8, stamp(0, 0, 0, threads[:2]), False)
        with pytest.raises(Violation, match="threads of warp 0 of this block loaded"):
            history.store(np.zeros(1, np.uint64), 8, stamp(0, 0, 0, threads[storing : storing + 1]))


def test_a_history_that_starts_within_a_granule():
    history = AccessHistory(1004, 12)  # not a multiple of 8: the first granule of 8 starts before it
    history.store(np.array([1008], np.uint64), 8, np.array([stamp(0, 0, 0, 0)]))
    history.store(np.array([1004], np.uint64), 4, np.array([stamp(0, 0, 0, 1)]))
    for address in 1008, 1012:
        with pytest.raises(Violation, match="thread 0 of this block"):
            history.load(np.array([address], np.uint64), 4, np.array([stamp(0, 0, 0, 2)]), False)


def test_messages_name_both_threads():
    history = AccessHistory(0, 64)
    history.store(np.array([0, 8], np.uint64), 8, np.array([stamp(3, 0, 0, 5), stamp(3, 0, 0, 6)]))
    with pytest.raises(Violation, match="loads an address that thread 6 of this block stored to") as caught:
        history.load(np.array([32, 12], np.uint64), 4, np.array([stamp(3, 0, 0, 1), stamp(3, 0, 0, 2)]), False)
    assert caught.value.position == 1
    with pytest.raises(Violation, match="read-only cache") as caught:
        history.load(np.array([32, 0], np.uint64), 4, np.array([stamp(3, 0, 0, 1), stamp(3, 1, 0, 2)]), True)
    assert caught.value.position == 1
