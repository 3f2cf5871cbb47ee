"""Faults that `benchmarks.cuda_mutations` seeds in the CUDA half, one at a time."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Mutant", "mutants"]


class Mutant(NamedTuple):
    """An edit that must apply exactly once."""

    name: str  # what is wrong
    file: str  # under csrc/
    old: str
    new: str
    equivalent: str = ""  # of one that survives: why what is computed stays right
    missed: str = ""  # of one that survives: why no test tells


def mutants() -> list[Mutant]:
    """All of them; names are unique."""
    from benchmarks.cuda_mutants_host import HOST
    from benchmarks.cuda_mutants_kernels import KERNELS
    from benchmarks.cuda_mutants_libraries import LIBRARIES

    everything = [*HOST, *LIBRARIES, *KERNELS]
    names = [mutant.name for mutant in everything]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two mutants have one name: {twice}")
    return everything
