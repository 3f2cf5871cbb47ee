"""Kernel distances between two sets of features: KID and CMMD."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._inputs import as_features, warn_of_extractors

__all__ = ["KernelDistance", "SubsetKernelDistance", "cmmd", "kid", "kid_subsets"]


class KernelDistance(NamedTuple):
    """An unbiased estimate of a squared kernel distance; ``float()`` of it is the value."""

    #: The squared maximum mean discrepancy, below 0 now and then where the two distributions are close.
    value: float
    #: Standard error of `value`: NaN below 4 samples on a side.
    stderr: float
    #: Number of samples of each side.
    num_samples: tuple[int, int]

    def __float__(self) -> float:
        return self.value


class SubsetKernelDistance(NamedTuple):
    """Mean and spread of a kernel distance over subsets, as other tools report it; ``float()`` of it is the mean."""

    #: Mean over the subsets.
    mean: float
    #: Standard deviation over the subsets, divided by their number and not one less. It tells how far apart subsets
    #: are, which depends on their size; it is not the standard error of `mean`.
    std: float
    #: (subsets,) the distance of each.
    values: NDArray[np.float64]

    def __float__(self) -> float:
        return self.mean

    def __repr__(self) -> str:
        return f"SubsetKernelDistance(mean={self.mean!r}, std={self.std!r}, subsets={len(self.values)})"


def kid(
    features_a: Any,
    features_b: Any,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    precision: str = "float32",
) -> KernelDistance:
    """Kernel distance of the whole sets (the KID, when the features are the 2015 Inception network's).

    Parameters
    ----------
    features_a, features_b : array, tensor or path
        (n, dim) features in float16, bfloat16, float32 or float64, at least 2 of them; or a file of features, of
        which an ``.npy`` is read block by block. Moments and statistics do not determine a kernel distance.
    degree, gamma, coef0 : int, float, float
        The kernel is ``(gamma x.y + coef0)^degree``; `gamma` is 1 / dim where it is not given.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic of the products ``x.y`` of rows of float32, float16 and bfloat16, after centring: with "float32" also
        exact products of rows rounded to integers, where the processor has them. Measured, that moves the value by
        3e-4 of its standard error at most. All else, and the products of rows of float64, is float64.

    Returns
    -------
    KernelDistance
        The unbiased estimate of the squared maximum mean discrepancy, not multiplied by anything; its standard error;
        the numbers of samples, which may differ.

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable; the message names it.
    FileNotFoundError
        If a path leads nowhere.

    Warns
    -----
    UserWarning
        If the features come from different extractors.

    Notes
    -----
    Bińkowski, Sutherland, Arbel & Gretton (2018), section 4, with all pairs in place of subsets. The standard error is
    the root of an unbiased estimate of the value's variance: Hoeffding's decomposition of the two-sample U-statistic
    with all its terms, as Sutherland (2019), "Unbiased estimators for the variance of MMD estimators", has it for sets
    of equal size. It is 0 where that estimate is negative, as may happen where the two distributions are the same.
    Memory is two blocks of 2,048 rows and their products, whatever n.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> distance = kid(rng.normal(size=(500, 8)), rng.normal(size=(400, 8)) + 0.5)
    >>> round(distance.value, 2), round(distance.stderr, 2), distance.num_samples
    (1.29, 0.12, (500, 400))
    """
    sides = _sides(features_a, features_b, "kid")
    value, error, *num_samples = _core.kid(*sides, degree, gamma, coef0, precision)
    return KernelDistance(value, error, (num_samples[0], num_samples[1]))


def kid_subsets(
    features_a: Any,
    features_b: Any,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int | None = 2020,
    like: str = "torch-fidelity",
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    precision: str = "float32",
) -> SubsetKernelDistance:
    """Kernel distance as other tools report it: its mean and spread over random subsets, the very subsets they draw.

    Parameters
    ----------
    features_a, features_b : array, tensor or path
        As in `kid`. The order counts, since the subsets are drawn in turn: torch-fidelity's ``input1`` and ``input2``,
        torchmetrics' ``real=True`` and ``real=False``, clean-fid's ``feats1`` and ``feats2``.
    subsets : int, default 100
        Number of subsets.
    subset_size : int, default 1000
        Rows of a subset of either side.
    seed : int, optional
        2020 is torch-fidelity's own ``rng_seed``. With None the rows come from the generators that the tools use then:
        a fresh one like torch-fidelity, torch's own like torchmetrics, NumPy's own like clean-fid.
    like : {"torch-fidelity", "torchmetrics", "clean-fid"}, default "torch-fidelity"
        How rows are drawn: by ``numpy.random.RandomState(seed).choice``, by ``torch.randperm`` after
        ``torch.manual_seed(seed)``, or by ``numpy.random.choice`` after ``numpy.random.seed(seed)``, where a set
        of fewer rows than `subset_size` makes the subsets smaller.
    degree, gamma, coef0, precision
        As in `kid`.

    Returns
    -------
    SubsetKernelDistance
        The other tools' number, but for the rounding of their float32.

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable; the message names it.
    FileNotFoundError
        If a path leads nowhere.

    Warns
    -----
    UserWarning
        If the features come from different extractors.

    Notes
    -----
    `kid` is the better estimate: it uses every pair of rows once, draws nothing, and has a standard error.
    """
    if like not in _DRAWS:
        raise ValueError(f"like must be one of {', '.join(map(repr, _DRAWS))}, got {like!r}")
    for name, number, least in (("subsets", subsets, 1), ("subset_size", subset_size, 2)):
        if operator.index(number) < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    sides = _sides(features_a, features_b, "kid_subsets")
    n_a, n_b = _num_rows(sides[0], "features_a"), _num_rows(sides[1], "features_b")
    size = min(subset_size, n_a, n_b) if like == "clean-fid" else subset_size
    for name, n in (("features_a", n_a), ("features_b", n_b)):
        if n < size:
            raise ValueError(f"subset_size is {size}, but {name} has {n} rows")
    rows_a, rows_b = _DRAWS[like](n_a, n_b, subsets, size, seed)
    values = np.array(_core.kid_of_subsets(*sides, rows_a, rows_b, degree, gamma, coef0, precision))
    return SubsetKernelDistance(float(values.mean()), float(values.std()), values)


def cmmd(features_a: Any, features_b: Any, *, sigma: float = 10.0, precision: str = "float32") -> float:
    """Distance with a Gaussian kernel, times 1000 (the CMMD, when the features are CLIP's, of unit norm).

    Parameters
    ----------
    features_a, features_b : array, tensor or path
        As in `kid`, taken as they are: CMMD is defined for CLIP's embeddings after
        ``x / numpy.linalg.norm(x, axis=1, keepdims=True)``, which is left to the caller.
    sigma : float, default 10
        The kernel is ``exp(-|x - y|^2 / (2 sigma^2))``.
    precision : {"float32", "float64"}, default "float32"
        As in `kid`.

    Returns
    -------
    float
        1000 times the biased estimate of the squared maximum mean discrepancy, which takes all pairs, those of a row
        with itself too; never negative.

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable; the message names it.
    FileNotFoundError
        If a path leads nowhere.

    Warns
    -----
    UserWarning
        If the features come from different extractors.

    Notes
    -----
    Jayasumana et al. (2024), "Rethinking FID", with the scale of their code. The estimate is too large by about
    ``1000 (1 - mean k) (1 / n + 1 / m)``: compare equal numbers of samples.
    """
    sides = _sides(features_a, features_b, "cmmd")
    return _SCALE * _core.gaussian_mmd(*sides, sigma, precision)


#: What the authors of CMMD multiply by, to have numbers that are easy to read.
_SCALE = 1000.0

Rows = NDArray[np.int64]


def _like_torch_fidelity(n_a: int, n_b: int, subsets: int, size: int, seed: int | None) -> tuple[Rows, Rows]:
    random = np.random.RandomState(seed)
    return _in_turn(lambda n: random.choice(n, size, replace=False), n_a, n_b, subsets)


def _like_torchmetrics(n_a: int, n_b: int, subsets: int, size: int, seed: int | None) -> tuple[Rows, Rows]:
    import torch

    random = torch.default_generator if seed is None else torch.Generator().manual_seed(seed)
    return _in_turn(lambda n: torch.randperm(n, generator=random)[:size].numpy(), n_a, n_b, subsets)


def _like_clean_fid(n_a: int, n_b: int, subsets: int, size: int, seed: int | None) -> tuple[Rows, Rows]:
    choice = np.random.choice if seed is None else np.random.RandomState(seed).choice  # as it does
    return _in_turn(lambda n: choice(n, size, replace=False), n_b, n_a, subsets)[::-1]


_DRAWS: dict[str, Callable[[int, int, int, int, int | None], tuple[Rows, Rows]]] = {
    "torch-fidelity": _like_torch_fidelity,
    "torchmetrics": _like_torchmetrics,
    "clean-fid": _like_clean_fid,
}


def _in_turn(draw: Callable[[int], Any], n_first: int, n_second: int, subsets: int) -> tuple[Rows, Rows]:
    """(subsets, size) rows of each side, drawn one subset of each after the other."""
    pairs = [(draw(n_first), draw(n_second)) for _ in range(subsets)]
    return np.array([first for first, _ in pairs]), np.array([second for _, second in pairs])


def _sides(features_a: Any, features_b: Any, caller: str) -> tuple[Any, Any]:
    """The two arrays of features of a function's arguments."""
    a, b = as_features(features_a, "features_a", caller), as_features(features_b, "features_b", caller)
    warn_of_extractors(a, b, stacklevel=4)
    return a.features, b.features


def _num_rows(features: Any, name: str) -> int:
    shape = getattr(features, "shape", None)
    if not shape:
        raise TypeError(
            f"{name}: kid_subsets needs features as an array, tensor or path, got {type(features).__name__}"
        )
    return int(shape[0])
