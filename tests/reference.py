"""Reference implementations: the published formulas in NumPy, SciPy and mpmath, without regard to speed."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import mpmath
import numpy as np
import scipy.linalg
import scipy.spatial
import scipy.spatial.distance
from numpy.typing import NDArray

Array = NDArray[np.float64]

mpmath.mp.dps = 60


def moments(features: NDArray, ddof: int = 1) -> tuple[Array, Array]:
    """Mean and covariance in two passes, in extended precision."""
    rows = features.astype(np.longdouble)
    mean = rows.mean(axis=0)
    centred = rows - mean
    return mean.astype(float), (centred.T @ centred / (len(rows) - ddof)).astype(float)


def distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array, trace_of_root: float) -> float:
    return float(np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * trace_of_root)


def trace_of_root_sqrtm(sigma1: Array, sigma2: Array) -> float:
    """By the matrix square root of the product, as most tools compute it."""
    return float(np.trace(scipy.linalg.sqrtm(sigma1 @ sigma2)).real)


def symmetric_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """From eigenvectors and singular values in float64, for singular covariances; negative eigenvalues count as 0."""
    factors = []
    for sigma in (sigma1, sigma2):
        values, vectors = np.linalg.eigh(sigma)
        factors.append(vectors * np.sqrt(np.maximum(values, 0)))
    root = np.linalg.svd(factors[0].T @ factors[1], compute_uv=False).sum()
    return max(0.0, distance(mu1, sigma1, mu2, sigma2, float(root)))


def trace_of_root_exact(sigma1: Array, sigma2: Array) -> mpmath.mpf:
    """In 60 digits, for positive definite sigma1 of small dim."""
    a, b = mpmath.matrix(sigma1.tolist()), mpmath.matrix(sigma2.tolist())
    factor = mpmath.cholesky(a)
    form = factor.T * b * factor
    return sum(mpmath.sqrt(max(value, 0)) for value in mpmath.eigsy((form + form.T) / 2, eigvals_only=True))


def nuclear_norm_exact(rows1: Array, rows2: Array) -> mpmath.mpf:
    """Tr (S1 S2)^(1/2) of the covariances of few rows, in 60 digits: the nuclear norm of the product of the rows."""
    cross = _centred(rows1) * _centred(rows2).T
    form = cross * cross.T if cross.rows <= cross.cols else cross.T * cross
    values = mpmath.eigsy((form + form.T) / 2, eigvals_only=True)
    floor = mpmath.mpf(10) ** -45 * max(values)
    return sum(mpmath.sqrt(value) for value in values if value > floor)


def nuclear_norm(rows1: Array, rows2: Array) -> float:
    """The same in float64, from singular values, so that no value is squared."""
    centred1 = (rows1 - rows1.mean(axis=0)) / math.sqrt(len(rows1) - 1)
    centred2 = (rows2 - rows2.mean(axis=0)) / math.sqrt(len(rows2) - 1)
    return float(np.linalg.svd(centred1 @ centred2.T, compute_uv=False).sum())


def weighted_distance(rows: Array, weights: Array, mu1: Array, sigma1: Array) -> float:
    """Distance of weighted rows (reliability weights) to a Gaussian, from a symmetric root and singular values."""
    total = weights.sum()
    mean = weights @ rows / total
    columns = (np.sqrt(weights) * (rows - mean).T) / math.sqrt(total - np.sum(weights**2) / total)
    values, vectors = np.linalg.eigh(sigma1)
    values[values < len(values) * np.finfo(float).eps * values[-1]] = 0
    root = np.linalg.svd((vectors * np.sqrt(values)).T @ columns, compute_uv=False).sum()
    return distance(mu1, sigma1, mean, columns @ columns.T, root)


def differences(function: Callable[[Array], float], rows: Array, step: float = 1e-5) -> Array:
    """Gradient of a function of rows, by central differences."""
    result = np.empty_like(rows)
    for index in np.ndindex(rows.shape):
        ahead, behind = rows.copy(), rows.copy()
        ahead[index] += step
        behind[index] -= step
        result[index] = (function(ahead) - function(behind)) / (2 * step)
    return result


def squared_distances(a: Array, b: Array) -> Array:
    """Squared distances of the rows of `a` to the rows of `b`, as sums of squared differences."""
    return scipy.spatial.distance.cdist(a.astype(float), b.astype(float), "sqeuclidean")


def manifold_metrics(real: Array, fake: Array, k: int, inclusive: bool) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage from complete distance matrices, as in prdc."""
    within = np.less_equal if inclusive else np.less
    radii_of_real = np.partition(squared_distances(real, real), k, axis=1)[:, k]
    radii_of_fake = np.partition(squared_distances(fake, fake), k, axis=1)[:, k]
    across = squared_distances(real, fake)
    in_real, in_fake = within(across, radii_of_real[:, None]), within(across, radii_of_fake)
    density = in_real.sum() / (k * len(fake))
    return in_real.any(axis=0).mean(), in_fake.any(axis=1).mean(), density, in_real.any(axis=1).mean()


def mean_nearest_cosine_distance(rows: Array, others: Array) -> float:
    """Mean over `rows` of 1 - max |cos|, without rows of zeros."""
    unit = [side[side.any(axis=1)].astype(float) for side in (rows, others)]
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in unit]
    return float(np.mean(1 - np.abs(unit[0] @ unit[1].T).max(axis=1)))


def _centred(rows: Array) -> mpmath.matrix:
    matrix = mpmath.matrix(rows.tolist())
    for j in range(matrix.cols):
        mean = mpmath.fsum(matrix[:, j]) / matrix.rows
        for i in range(matrix.rows):
            matrix[i, j] -= mean
    return matrix / mpmath.sqrt(matrix.rows - 1)


def rotation(dim: int, rng: np.random.Generator) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
    return q * np.sign(np.diag(r))


def covariance(spectrum: Array, basis: Array) -> Array:
    sigma = (basis * spectrum) @ basis.T
    return (sigma + sigma.T) / 2


def spectrum(dim: int, condition: float, rng: np.random.Generator) -> Array:
    """Random eigenvalues from 1 to 1 / condition, including both."""
    values = condition ** -rng.random(dim)
    values[0] = 1.0
    values[-1] = 1.0 / condition
    return values


def inception_score(probabilities: NDArray) -> float:
    """Exponential of the mean Kullback-Leibler divergence of the rows from their mean, in extended precision."""
    rows = probabilities.astype(np.longdouble)
    ratio = np.divide(rows, rows.mean(axis=0), out=np.ones_like(rows), where=rows > 0)
    return float(np.exp((rows * np.log(ratio)).sum(axis=1).mean()))


def softmax(logits: NDArray) -> NDArray:
    """Softmax of each row, in extended precision."""
    rows = np.exp(logits.astype(np.longdouble) - logits.max(axis=1, keepdims=True))
    return rows / rows.sum(axis=1, keepdims=True)


def ngram_counts(texts: Iterable[Sequence[str]], n: int) -> Counter:
    """Counts of all windows of n symbols; a text is a str or a sequence of words."""
    return Counter(text[i : i + n] for text in texts for i in range(len(text) - n + 1))


def jensen_shannon(a: Counter, b: Counter) -> float:
    """Jensen-Shannon divergence in bits; SciPy returns its square root."""
    keys = list(a | b)
    p, q = ([counts[key] for key in keys] for counts in (a, b))
    return float(scipy.spatial.distance.jensenshannon(p, q, base=2) ** 2)


def polynomial_kernel(a: Array, b: Array, degree: int = 3, gamma: float | None = None, coef0: float = 1.0) -> Array:
    return ((1 / a.shape[1] if gamma is None else gamma) * (a @ b.T) + coef0) ** degree


def gaussian_kernel(a: Array, b: Array, sigma: float) -> Array:
    squares = np.sum((a[:, None, :] - b[None, :, :]) ** 2, axis=2)
    return np.exp(-squares / (2 * sigma**2))


def unbiased_mmd(xx: Array, yy: Array, xy: Array) -> float:
    n, m = xy.shape
    own = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(own - 2 * xy.mean())


def variance_of_unbiased_mmd(xx: Array, yy: Array, xy: Array) -> float:
    """Var = E[T^2] - E[T]^2, with each expectation as the mean over all tuples of distinct rows."""

    def mean(rows: int, columns: int, value) -> float:
        n, m = xy.shape
        tuples = itertools.product(itertools.permutations(range(n), rows), itertools.permutations(range(m), columns))
        return float(np.mean([value(*i, *j) for i, j in tuples]))

    def of_own(k: Array) -> float:
        n = len(k)
        one = np.mean([k[i, j] * k[i, q] for i, j, q in itertools.permutations(range(n), 3)])
        none = np.mean([k[i, j] * k[p, q] for i, j, p, q in itertools.permutations(range(n), 4)])
        both = np.mean([k[i, j] ** 2 for i, j in itertools.permutations(range(n), 2)])
        return float((4 * (n - 2) * (one - none) + 2 * (both - none)) / (n * (n - 1)))

    n, m = xy.shape
    none = mean(2, 2, lambda i, p, j, q: xy[i, j] * xy[p, q])
    of_rows = mean(1, 2, lambda i, j, q: xy[i, j] * xy[i, q]) - none
    of_columns = mean(2, 1, lambda i, p, j: xy[i, j] * xy[p, j]) - none
    of_pairs = mean(1, 1, lambda i, j: xy[i, j] ** 2) - none
    cross = ((m - 1) * of_rows + (n - 1) * of_columns + of_pairs) / (n * m)
    with_x = mean(2, 1, lambda i, p, j: xx[i, p] * xy[i, j]) - mean(3, 1, lambda i, p, q, j: xx[i, p] * xy[q, j])
    with_y = mean(1, 2, lambda i, j, q: yy[j, q] * xy[i, j]) - mean(1, 3, lambda i, j, p, q: yy[j, p] * xy[i, q])
    return of_own(xx) + of_own(yy) + 4 * cross - 4 * (2 / n * with_x + 2 / m * with_y)


def corrected_distance(mu1: Array, sigma1: Array, n1: int | None, mu2: Array, sigma2: Array, n2: int | None) -> float:
    """Distance without the bias of Gaussian samples; n is None for exact statistics.

    Tiomoko & Couillet (2019), theorem 1, on the negative axis: tr (S1 S2)^(1/2) = 1/pi int t^(-1/2) Psi(x(t)) dt.
    """
    values = scipy.linalg.eigh(sigma1, np.linalg.inv(sigma2), eigvals_only=True)
    u = np.arange(np.log(values[0]) - 60, np.log(values[-1]) + 40, 0.2)
    t = np.exp(u)
    x = (values / (values + t[:, None])).sum(axis=1)
    a, b = (0 if n is None else 1 / (n - 1) for n in (n1, n2))
    nodes, weights = np.polynomial.legendre.leggauss(200)
    y = x[:, None] * (nodes + 1) / 2
    psi = x / 2 * (weights / np.sqrt((1 - a * y) * (1 - b * y))).sum(axis=1)
    root = float((np.exp(u / 2) * psi).sum() * 0.2 / np.pi)
    means = sum(np.trace(sigma) / n for sigma, n in ((sigma1, n1), (sigma2, n2)) if n is not None)
    return distance(mu1, sigma1, mu2, sigma2, root) - float(means)


def estimate(rows1: Array, rows2: Array | None, mu2: Array, sigma2: Array) -> tuple[float, float, float]:
    """Unbiased distance, its standard error, and the degrees of freedom of the error by Satterthwaite's formula.

    Everything is recomputed without each row. rows2 is None if mu2 and sigma2 are exact.
    """

    def corrected(a: Array, b: Array | None) -> float:
        second = (mu2, sigma2, None) if b is None else (*moments(b), len(b))
        return corrected_distance(*moments(a), len(a), *second)

    def plain(a: Array, b: Array | None) -> float:
        first, second = moments(a), (mu2, sigma2) if b is None else moments(b)
        return distance(*first, *second, trace_of_root_sqrtm(first[1], second[1]))

    complete = corrected(rows1, rows2)
    unbiased, variance, varies, weight, means = complete, 0.0, 0.0, 0.0, np.zeros_like(sigma2)
    for k, rows in enumerate((rows1, rows2)):
        if rows is None:
            continue
        n, without = len(rows), [np.delete(rows, i, axis=0) for i in range(len(rows))]
        pairs = [(rest, rows2) if k == 0 else (rows1, rest) for rest in without]
        corrected_without = np.array([corrected(*pair) for pair in pairs])
        unbiased -= (n - 1) * float(np.mean(corrected_without) - complete)
        of_rows = (n - 1) * (corrected_without - corrected_without.mean()) ** 2
        variance += float(np.mean(of_rows))
        varies += float(np.var(of_rows)) / n
        bias = (n - 1) * (np.mean([plain(*pair) for pair in pairs]) - plain(rows1, rows2))
        sigma = moments(rows)[1]
        weight += (np.trace(sigma) / n - bias) / 2 / _gaussian_bias(rows1, rows2, sigma2, n) / n
        means += sigma / n
    sigmas = (moments(rows1)[1], sigma2 if rows2 is None else moments(rows2)[1])
    roots = np.sqrt(scipy.linalg.eigvals(sigmas[0] @ sigmas[1]).real)
    h = np.outer(roots, roots) / np.add.outer(roots, roots)
    second_order = weight**2 * np.sum(h**2) + 2 * np.sum(means**2)
    return unbiased, math.sqrt(variance - min(second_order, variance / 2)), 2 * variance**2 / varies


def _gaussian_bias(rows1: Array, rows2: Array | None, sigma2: Array, n: int) -> float:
    """Bias of the trace of the root for n samples of Gaussian features."""
    values = scipy.linalg.eigvals(moments(rows1)[1] @ (sigma2 if rows2 is None else moments(rows2)[1])).real
    u = np.arange(np.log(values.min()) - 40, np.log(values.max()) + 40, 0.2)
    x = (values / (values + np.exp(u)[:, None])).sum(axis=1)
    # Integration by parts; the difference of -log(1 - x/m) and its first-order term.
    excess = -(n - 1) * np.log1p(-x / (n - 1)) - x
    return float(-(np.exp(u / 2) * excess).sum() * 0.2 / (2 * np.pi))
