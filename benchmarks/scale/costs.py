"""What a number of samples costs, from measured rates."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from benchmarks.scale.trees import FAN_IN


class Rates(NamedTuple):
    """Measured seconds and bytes at one dim; the network is assumed."""

    dim: int
    #: Seconds for one row, with one thread.
    row: float
    merge: float
    distance: float
    #: Bytes of the moments of a part.
    state: float
    #: Bytes in a second between two nodes.
    network: float = 1.25e9

    @property
    def hop(self) -> float:
        """Seconds until a node has received one part and merged it."""
        return self.state / self.network + self.merge


def cost(rates: Rates, n: float, workers: int) -> dict[str, Any]:
    """Bytes and seconds of n samples on a number of workers, without the network that computes the features."""
    depth = math.ceil(math.log(workers, FAN_IN) - 1e-9) if workers > 1 else 0
    return {
        "n": n,
        "workers": workers,
        "features_bytes": 4 * n * rates.dim,
        "moments_bytes": rates.state,
        "network_bytes": (workers - 1) * rates.state,
        "update_seconds": n * rates.row / workers,
        "tree_seconds": depth * (FAN_IN - 1) * rates.hop,
        "distance_seconds": rates.distance,
    }


def crossovers(rates: Rates) -> dict[str, float]:
    """Rows for a worker at which its updates take as long as another part of the work."""
    return {
        "merge": rates.merge / rates.row,
        "hop": rates.hop / rates.row,
        "distance": rates.distance / rates.row,
        "stored": rates.state / (4 * rates.dim),
    }
