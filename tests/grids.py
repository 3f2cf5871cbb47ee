"""Deterministic subsets of large sets of test cases."""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

Case = TypeVar("Case")


def share(
    cases: Iterable[Case], keep: int, seed: str, parameters: Sequence[Mapping[str, Hashable]] | None = None
) -> list[Case]:
    """`keep` of the cases, in their order: the first, the last, and a pseudorandom choice of the rest.

    Parameters
    ----------
    cases
        What to choose from. With `keep` cases or fewer, all are returned.
    keep
        Number of cases to return, at least 1.
    seed
        The choice depends on this and on the position of each case only, so that every run on every machine makes the
        same one. Usually the test's id.
    parameters
        For each case, the values of its parameters by name. If given, cases with a value that no chosen case has are
        preferred: with `keep` large enough, every value of every parameter occurs.
    """
    cases = list(cases)
    if len(cases) <= keep:
        return cases
    named = [set(p.items()) for p in parameters] if parameters is not None else [set[Any]() for _ in cases]
    chosen = [0, len(cases) - 1][:keep]
    left = sorted(range(1, len(cases) - 1), key=lambda position: _hash(f"{seed} {position}"))
    while len(chosen) < keep:
        seen = set().union(*(named[position] for position in chosen))
        best = max(left, key=lambda position: len(named[position] - seen))  # the first of equally good ones
        left.remove(best)
        chosen.append(best)
    return [cases[position] for position in sorted(chosen)]


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode()).digest()
