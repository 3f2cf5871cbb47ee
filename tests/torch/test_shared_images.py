"""Processes that share the images of a call return what one process returns."""

from pathlib import Path

import pytest
from processes import several_processes

import fidfast.torch as ft

WORKER = """
import datetime, os, sys, torch.distributed as dist
from torch.distributed.rendezvous import rendezvous
sys.path[:0] = sys.argv[2:]
# The processes start at different times, which must not count for the short timeout.
store, rank, size = next(rendezvous("env://", timeout=datetime.timedelta(seconds=100)))
import processes_that_share
store.set(f"started {rank}", "")
store.wait([f"started {other}" for other in range(size)])
dist.init_process_group("gloo", store=dist.PrefixStore("group", store), rank=rank, world_size=size,
                        timeout=datetime.timedelta(seconds=2))
processes_that_share.run(sys.argv[1])
os._exit(0)  # a process has died, so that the group cannot be destroyed
"""


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_results_of_one_process(tmp_path, size):
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    assert several_processes(size, tmp_path, WORKER, *folders) == [0] * (size - 1) + [9]


def test_without_a_process_group(rng):
    with pytest.raises(RuntimeError, match="distributed=True needs a process group"):
        ft.moments_of_images(rng.integers(0, 255, (4, 3, 3, 3), "uint8"), lambda images: images, distributed=True)
