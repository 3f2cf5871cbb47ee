"""The Gaussian that stands for a data set: mean, covariance, and what is known about them."""

from __future__ import annotations

import operator
import os
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fidfast import _core
from fidfast import _devices as devices
from fidfast._files import formats

__all__ = ["GaussianStats"]


class GaussianStats:
    """Mean and covariance of features; one side of a Fréchet distance.

    Immutable. The factor of the covariance is kept once it is computed, so a reference that is compared with many
    generated sets pays for it once.

    Parameters
    ----------
    mu : (dim,) array_like
        Mean of the features.
    sigma : (dim, dim) array_like
        Their covariance, symmetric and positive semidefinite; float32 rounding is forgiven.
    num_samples : int, optional
        Number of samples behind the statistics. Where it is at most `dim` it tells the rank of `sigma`, and the
        distance is accurate to 1e-9 instead of 3e-8.
    extractor : str, optional
        Name of the network that made the features. Distances between different extractors warn.
    ddof : int, optional
        The covariance is the scatter divided by ``num_samples - ddof``; kept for the reader, never used.

    Raises
    ------
    ValueError
        If the shapes do not fit, a value is NaN or infinite, or `sigma` is not symmetric and positive semidefinite.

    Examples
    --------
    >>> import numpy as np
    >>> GaussianStats(np.zeros(3), np.eye(3), num_samples=100)
    GaussianStats(dim=3, num_samples=100, extractor=None)
    """

    __slots__ = ("_core", "_ddof", "_elsewhere", "_extractor")

    def __init__(
        self,
        mu: ArrayLike,
        sigma: ArrayLike,
        num_samples: int | None = None,
        extractor: str | None = None,
        *,
        ddof: int | None = None,
    ) -> None:
        if num_samples is not None and operator.index(num_samples) < 2:
            raise ValueError(f"num_samples must be at least 2, got {num_samples}")
        core = _core.Gaussian(_real(mu, "mu"), _real(sigma, "sigma"), num_samples or 0)
        self._set(core, extractor, ddof)

    def _set(self, core: _core.Gaussian, extractor: str | None, ddof: int | None) -> None:
        self._core = core
        self._elsewhere: dict[int | None, _core.Gaussian] = {}  # copies on other devices, by device
        self._extractor = extractor
        self._ddof = ddof

    @classmethod
    def _of_core(cls, core: _core.Gaussian, extractor: str | None, ddof: int | None) -> GaussianStats:
        stats = cls.__new__(cls)
        stats._set(core, extractor, ddof)
        return stats

    def _at(self, device: int | None) -> _core.Gaussian:
        """The same Gaussian on this device; kept, with the factor it comes to have there."""
        if devices.device_of_core(self._core) == device:
            return self._core
        if device not in self._elsewhere:
            made = devices.core_at(device).Gaussian
            columns = self._core.columns
            numbers = (self._core.mu, self._core.sigma if columns is None else columns, self._core.num_samples)
            self._elsewhere[device] = (made if columns is None else made.from_columns)(*numbers, device or 0)
        return self._elsewhere[device]

    @property
    def dim(self) -> int:
        """Number of columns of the features."""
        return self._core.dim

    @property
    def mu(self) -> NDArray[np.float64]:
        """(dim,) mean; read-only."""
        return self._core.mu

    @property
    def sigma(self) -> NDArray[np.float64]:
        """(dim, dim) covariance; read-only."""
        return self._core.sigma

    @property
    def num_samples(self) -> int | None:
        """Number of samples behind the statistics, or None where it is not known."""
        return self._core.num_samples or None

    @property
    def extractor(self) -> str | None:
        """Name of the network that made the features, or None where it is not known."""
        return self._extractor

    @property
    def ddof(self) -> int | None:
        """What was subtracted from ``num_samples`` in the covariance's divisor, or None where it is not known."""
        return self._ddof

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` with ``mu`` and ``sigma``, which every tool of the field reads, and what else is known.

        Parameters
        ----------
        path : path
            Where to write; ``.npz`` is appended where the name does not end in it. The file appears whole or not at
            all: a failed write leaves an older file as it was.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        formats.write_stats(path, formats.Stats(self.mu, self.sigma, self.num_samples, self.extractor, self.ddof))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GaussianStats:
        """Read statistics that this or another tool wrote.

        Parameters
        ----------
        path : path
            ``.npz`` with ``mu`` and ``sigma`` (fidfast, pytorch-fid, TTUR, EDM, clean-fid, ADM), ``.pkl`` of EDM2 or
            StyleGAN, or ``.pt`` of torch-fidelity.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or holds no statistics; the message lists what it holds.
        """
        content = formats.read(path)
        if not isinstance(content, formats.Stats):
            raise ValueError(f"{os.fspath(path)} holds {content.what}, not statistics with mu and sigma")
        with formats.naming(path):
            return cls._of_file(content)

    @classmethod
    def _of_file(cls, content: formats.Stats) -> GaussianStats:
        return cls(content.mu, content.sigma, content.num_samples, content.extractor, ddof=content.ddof)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GaussianStats):
            return NotImplemented
        if (self.num_samples, self.extractor, self.ddof) != (other.num_samples, other.extractor, other.ddof):
            return False
        if not np.array_equal(self.mu, other.mu):
            return False
        # Columns tell sigma, but each device rounds it in its own way.
        mine, theirs = self._core.columns, other._core.columns
        if mine is not None and theirs is not None and np.array_equal(mine, theirs):
            return True
        return np.array_equal(self.sigma, other.sigma)

    __hash__ = None  # type: ignore[assignment]  # compared by their arrays

    def __repr__(self) -> str:
        return f"GaussianStats(dim={self.dim}, num_samples={self.num_samples}, extractor={self.extractor!r})"

    def __copy__(self) -> GaussianStats:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> GaussianStats:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        columns = self._core.columns
        matrix = self.sigma if columns is None else columns
        state = (np.array(self.mu), np.array(matrix), columns is not None, self._core.num_samples)
        return _unpickle, (*state, self._extractor, self._ddof)


def together(
    stats1: GaussianStats, stats2: GaussianStats
) -> tuple[ModuleType, tuple[_core.Gaussian, _core.Gaussian], int | None]:
    """The module to work with, both Gaussians in one place, and which: a GPU where either of them lies on one."""
    places = [devices.device_of_core(stats._core) for stats in (stats1, stats2)]
    place = next((device for device in places if device is not None), None)
    return devices.core_at(place), (stats1._at(place), stats2._at(place)), place


def _unpickle(
    mu: NDArray[np.float64],
    matrix: NDArray[np.float64],
    low_rank: bool,
    num_samples: int,
    extractor: str | None,
    ddof: int | None,
) -> GaussianStats:
    make = _core.Gaussian.from_columns if low_rank else _core.Gaussian
    return GaussianStats._of_core(make(mu, matrix, num_samples), extractor, ddof)


def _real(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """As float64; tensors of every library that NumPy understands."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return np.asarray(array, dtype=np.float64)
