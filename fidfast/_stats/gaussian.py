"""Mean and covariance of a data set, one side of a Fréchet distance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fidfast import _core
from fidfast._arguments import (
    as_array,
    as_dense,
    optional,
    require_integer,
    require_path,
    require_real,
    require_text,
)
from fidfast._devices import backend_module, device_of_core, to_host
from fidfast._files import Stats, naming, read, write_stats

__all__ = [
    "ACCEPT_ALL",
    "NEGATIVE_TOLERANCE",
    "GaussianStats",
    "explain_overflow",
    "on_common_device",
    "record_of_stats",
    "require_tolerance",
    "scaled_stats",
    "stats_from_core",
    "stats_from_record",
]

#: Default of `negative_tolerance`: more than what rounding to float32 makes negative.
NEGATIVE_TOLERANCE = 1e-6

#: The largest `negative_tolerance`, for covariances that were checked before.
ACCEPT_ALL = np.nextafter(1.0, 0.0)


class GaussianStats:
    """Mean and covariance of features; one side of a Fréchet distance.

    Immutable. The factor of the covariance is kept after its first use, so a reference that is compared with many
    sets of samples is factored once.

    Parameters
    ----------
    mu : (dim,) array_like
        Mean of the features.
    sigma : (dim, dim) array_like
        Their covariance, symmetric and positive semidefinite up to `negative_tolerance`.
    num_samples : int, optional
        Number of samples that the statistics were computed from. If it is at most `dim`, the rank of their covariance
        is at most ``num_samples - 1``; what `sigma` has beyond that is left out if it is not larger than rounding,
        which makes the distance accurate to 1e-9 instead of 3e-8. A larger rest (of a shrunk or regularized
        covariance, or of several rows per sample) is kept.
    extractor : str, optional
        Name of the network that computed the features. Comparing statistics of different extractors warns.
    ddof : int, optional
        The covariance is the scatter divided by ``num_samples - ddof``. Stored as metadata only.
    negative_tolerance : float, default 1e-6
        How far `sigma` may be from a covariance, from 0 to below 1: negative eigenvalues of at most this fraction of
        the largest eigenvalue are dropped, and differences of at most this fraction of the largest entry (or 1e-6, if
        that is more) between `sigma` and its transpose are averaged. The default accepts a covariance rounded to
        float32. One computed in float32 or half precision, for example as ``E[x x^T] - mu mu^T``, may need more;
        `least_eigenvalue` and `dropped_trace` say what was dropped.
    product_errors : (dim,) array_like, optional
        As the property.

    Raises
    ------
    ValueError
        If the shapes do not match, a value is NaN or infinite, or `sigma` is not symmetric and positive semidefinite
        up to `negative_tolerance`.

    Examples
    --------
    >>> import numpy as np
    >>> GaussianStats(np.zeros(3), np.eye(3), num_samples=100)
    GaussianStats(dim=3, num_samples=100, extractor=None)
    """

    __slots__ = ("_copies", "_core", "_ddof", "_extractor")

    def __init__(
        self,
        mu: ArrayLike,
        sigma: ArrayLike,
        *,
        num_samples: int | None = None,
        extractor: str | None = None,
        ddof: int | None = None,
        negative_tolerance: float = NEGATIVE_TOLERANCE,
        product_errors: ArrayLike = (),
    ) -> None:
        num_samples = optional(require_integer, "num_samples", num_samples, 2)
        ddof = optional(require_integer, "ddof", ddof, 0)
        optional(require_text, "extractor", extractor)
        errors = _real(product_errors, "product_errors")
        if errors.ndim != 1:
            raise ValueError(f"product_errors must be 1-D (dim,), got shape {errors.shape}")
        core = _core.Gaussian(
            _real(mu, "mu"),
            _real(sigma, "sigma"),
            num_samples or 0,
            negative_tolerance=require_tolerance(negative_tolerance),
            product_errors=errors,
        )
        self._set(core, extractor, ddof)

    def _set(self, core: _core.Gaussian, extractor: str | None, ddof: int | None) -> None:
        self._core = core
        self._copies: dict[int | None, _core.Gaussian] = {}  # on other devices
        self._extractor = extractor
        self._ddof = ddof

    def _on_device(self, device: int | None) -> _core.Gaussian:
        """The Gaussian on this device; a copy is cached together with its factor."""
        if device_of_core(self._core) == device:
            return self._core
        if device not in self._copies:
            gaussian = backend_module(device).Gaussian
            core, columns = self._core, self._core.columns
            if columns is None:
                copied = gaussian(core.mu, core.sigma, core.num_samples, device or 0, ACCEPT_ALL, core.product_errors)
            else:
                copied = gaussian.from_columns(core.mu, columns, core.num_samples, device or 0)
            self._copies[device] = copied
        return self._copies[device]

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
    def factor(self) -> NDArray[np.float64]:
        """(dim, rank) matrix ``F`` with ``F F^T = sigma``, up to rounding."""
        return self._core.factor.T

    @property
    def least_eigenvalue(self) -> float:
        """The smallest eigenvalue of `sigma` if it is negative, and was dropped from `factor`; else 0."""
        return self._core.clipped[0]

    @property
    def dropped_trace(self) -> float:
        """Sum of the magnitudes of the eigenvalues that were dropped because `sigma` has negative ones."""
        return self._core.clipped[2]

    @property
    def caution(self) -> str | None:
        """What was dropped from a `sigma` that is more indefinite than rounding to float32 explains, or None."""
        least, largest, trace = self._core.clipped
        if least >= -NEGATIVE_TOLERANCE * largest:
            return None
        return (
            f"its covariance is not positive semidefinite (eigenvalues from {least:.3g} to {largest:.3g}); eigenvalues "
            f"with a total of {trace:.3g} were dropped ({trace / np.trace(self.sigma):.2g} of the trace)"
        )

    @property
    def num_samples(self) -> int | None:
        """Number of samples that the statistics were computed from, or None if it was not given."""
        return self._core.num_samples or None

    @property
    def extractor(self) -> str | None:
        """Name of the network that computed the features, or None if it was not given."""
        return self._extractor

    @property
    def ddof(self) -> int | None:
        """Number subtracted from ``num_samples`` in the covariance's divisor, or None if it was not given."""
        return self._ddof

    @property
    def product_errors(self) -> NDArray[np.float64]:
        """(dim,) vector p: float32 products changed ``sigma[i, j]`` by about ``sqrt(p[i] p[j])``, as `Moments` says.

        Empty for products in float64, and for statistics that do not record it. `frechet_terms` includes it in the
        bound on the rounding error.
        """
        return self._core.product_errors

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an ``.npz`` with ``mu`` and ``sigma``, which other FID tools can read, and the metadata.

        Parameters
        ----------
        path : path
            ``.npz`` is appended if the name does not end in it. The file is written atomically: if writing fails, an
            older file stays unchanged.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        write_stats(require_path("path", path), record_of_stats(self))

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, key: str | None = None, negative_tolerance: float = NEGATIVE_TOLERANCE
    ) -> GaussianStats:
        """Read statistics that this or another tool wrote. Other arrays of the file are not read.

        Parameters
        ----------
        path : path
            ``.npz`` with ``mu`` and ``sigma`` (fidfast, pytorch-fid, TTUR, EDM, clean-fid, ADM), ``.pkl`` of EDM2,
            StyleGAN or cd-fvd, ``.pt`` of torch-fidelity, ``.safetensors``, a ``.npy`` of a dictionary, or a folder
            with ``mu.npy`` and ``cov.npy`` (fadtk). Instead of ``mu`` and ``sigma``, the names may be ``mean`` and
            ``cov`` or ``covariance``, or ``m`` and ``s``, with equal prefixes and suffixes.
        key : str, optional
            Chooses statistics in a file with several: the name of a nested dictionary (``"fd_dinov2"`` in a file of
            EDM2), the names of any two entries (``"mu_s,sigma_s"`` in a file of ADM), or the name of an extractor
            (``"inception-spatial"``). Default: ``mu`` and ``sigma``, in a file of EDM2 those of ``fid``. `file_info`
            lists the keys.
        negative_tolerance : float, default 1e-6
            As in `GaussianStats`.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If the file is damaged, holds no statistics, has no such key, or holds several statistics and `key` is
            needed; the message lists what it holds.
        """
        path = require_path("path", path)
        require_tolerance(negative_tolerance)
        optional(require_text, "key", key)
        content = read(path, key=key)
        if not isinstance(content, Stats):
            raise ValueError(f"{os.fspath(path)} holds {content.what}, not statistics with mu and sigma")
        with naming(path):
            return stats_from_record(content, negative_tolerance)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GaussianStats):
            return NotImplemented
        if (self.num_samples, self.extractor, self.ddof) != (other.num_samples, other.extractor, other.ddof):
            return False
        if not np.array_equal(self.mu, other.mu):
            return False
        # Equal columns give equal sigmas, up to the rounding of each device.
        mine, theirs = self._core.columns, other._core.columns
        if mine is not None and theirs is not None and np.array_equal(mine, theirs):
            return True
        return np.array_equal(self.sigma, other.sigma)

    __hash__ = None  # type: ignore[assignment]  # equality compares arrays

    def __repr__(self) -> str:
        return f"GaussianStats(dim={self.dim}, num_samples={self.num_samples}, extractor={self.extractor!r})"

    def __copy__(self) -> GaussianStats:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> GaussianStats:
        return self

    def __getstate__(self) -> dict[str, Any]:
        columns = self._core.columns
        return {
            "mu": np.array(self.mu),
            "sigma": np.array(self.sigma) if columns is None else None,
            "columns": columns if columns is None else np.array(columns),
            "num_samples": self._core.num_samples,
            "extractor": self._extractor,
            "ddof": self._ddof,
            "product_errors": self.product_errors,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        columns = state["columns"]
        if columns is None:
            core = _core.Gaussian(
                state["mu"],
                state["sigma"],
                state["num_samples"],
                negative_tolerance=ACCEPT_ALL,  # it was accepted once
                product_errors=state.get("product_errors", np.empty(0)),  # older pickles have none
            )
        else:
            core = _core.Gaussian.from_columns(state["mu"], columns, state["num_samples"])
        self._set(core, state["extractor"], state["ddof"])


def stats_from_core(core: _core.Gaussian, extractor: str | None, ddof: int | None) -> GaussianStats:
    """Statistics that wrap a Gaussian of the core."""
    stats = GaussianStats.__new__(GaussianStats)
    stats._set(core, extractor, ddof)
    return stats


def scaled_stats(stats: GaussianStats, exponent: int) -> GaussianStats:
    """The statistics of features that are multiplied by ``2^exponent``, in host memory."""
    core = stats._core

    def scale(array: NDArray[np.float64], power: int) -> NDArray[np.float64]:
        return np.ldexp(array, power * exponent)

    if core.columns is not None:
        scaled = _core.Gaussian.from_columns(scale(core.mu, 1), scale(core.columns, 1), core.num_samples)
    else:
        scaled = _core.Gaussian(
            scale(core.mu, 1),
            scale(core.sigma, 2),
            core.num_samples,
            negative_tolerance=ACCEPT_ALL,  # it was accepted once
            product_errors=scale(core.product_errors, 2),
        )
    return stats_from_core(scaled, stats.extractor, stats.ddof)


def record_of_stats(stats: GaussianStats) -> Stats:
    """The record of a file with these statistics."""
    errors = stats.product_errors if len(stats.product_errors) else None
    return Stats(stats.mu, stats.sigma, stats.num_samples, stats.extractor, stats.ddof, product_errors=errors)


def stats_from_record(record: Stats, negative_tolerance: float = NEGATIVE_TOLERANCE) -> GaussianStats:
    """Statistics from the record of a file."""
    return GaussianStats(
        record.mu,
        record.sigma,
        num_samples=record.num_samples,
        extractor=record.extractor,
        ddof=record.ddof,
        negative_tolerance=negative_tolerance,
        product_errors=() if record.product_errors is None else record.product_errors,
    )


def on_common_device(
    stats1: GaussianStats, stats2: GaussianStats
) -> tuple[ModuleType, tuple[_core.Gaussian, _core.Gaussian], int | None]:
    """The backend module, both Gaussians on one device, and the device: a GPU if one of them is on a GPU."""
    device1, device2 = device_of_core(stats1._core), device_of_core(stats2._core)
    if device1 is None and device2 is None:
        return _core, (stats1._core, stats2._core), None
    device = device2 if device1 is None else device1
    return backend_module(device), (stats1._on_device(device), stats2._on_device(device)), device


@contextmanager
def explain_overflow(samples: GaussianStats, reference: GaussianStats) -> Iterator[None]:
    """Raise a ValueError that names the argument if a result is too large for float64."""
    try:
        yield
    except OverflowError as error:
        sides = {"samples": samples, "reference": reference}
        sizes = {name: (np.abs(stats.mu).max(), np.abs(stats.sigma.diagonal()).max()) for name, stats in sides.items()}
        name = max(sizes, key=lambda side: max(sizes[side][0], np.sqrt(sizes[side][1])))
        mu, sigma = sizes[name]
        raise ValueError(
            f"{name}: {error} (1.8e+308): its mu has magnitudes up to {mu:.3g}, its sigma up to {sigma:.3g}"
        ) from error


def require_tolerance(value: Any) -> float:
    """The argument `negative_tolerance` of many functions."""
    return require_real("negative_tolerance", value, lambda number: 0 <= number < 1, "at least 0 and below 1")


def _real(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Convert to a float64 array; accepts everything that NumPy converts, and tensors, which are detached."""
    array = as_array(name, to_host(as_dense(values, name)), "an array of real numbers")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return np.asarray(array, dtype=np.float64)
