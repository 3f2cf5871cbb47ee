"""The Fréchet distance as a loss, with its gradient in the features of a batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from fidfast._inputs import open_input
from fidfast._metrics.scale import exponent_of, rescaled_inputs
from fidfast._stats import holding
from fidfast.torch._training.means import Mean, mean_low_of
from fidfast.torch._training.running_stats import (
    CombinedStats,
    FixedDtypeModule,
    RunningStats,
    check_features,
    stats_of_rows,
)

__all__ = ["FrechetLoss", "frechet_loss"]

_EPSILON = torch.finfo(torch.float64).eps

#: Maximum rank for singular values. Above it, as in the core, their squares are computed as eigenvalues.
_MAX_SVD_RANK = 1024


class FrechetLoss(FixedDtypeModule):
    """Fréchet distance of features to a fixed reference, differentiable in the features.

    In training mode (``.train()``, the default) every call also adds the batch to `running_stats`, after computing its
    loss; in evaluation mode (``.eval()``) it does not. The reference moves with ``.to()`` and stays in float64. It is
    not part of ``state_dict``; `running_stats` are.

    Parameters
    ----------
    reference : path, GaussianStats, Moments or (n, dim) features
        Fixed side of the distance. Its covariance is factored once, in the constructor.
    running_stats : FeatureQueue or MovingMoments, optional
        Statistics of earlier batches. The loss is then the distance of these statistics and the batch combined, and
        its gradient treats the earlier rows as constant. By default the loss is that of the batch alone.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic for a reference given as features, as in `fidfast.fid`.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If the reference or the running statistics are invalid, or their dims differ.

    Notes
    -----
    With the factor ``sigma1 = F F^T`` of the reference, the batch's centred rows ``B B^T = sigma2`` and the singular
    value decomposition ``F^T B = U s V^T``, the trace of the root is ``sum s`` and its gradient in B is
    ``F U V^T = T B``: no (dim, dim) matrix is factored, and nothing is squared. The gradient of a row x of n is
    ``2 / n (mu2 - mu1) + 2 / (n - 1) (I - T)(x - mu2)``. Singular values that may be rounding errors, up to
    ``4 eps sqrt(dim tr(sigma1) E|x|^2)``, are excluded from both: there the distance is not differentiable, and zero
    is a subgradient. All computations are in float64, for every dtype of the features.

    If `running_stats` hold more than `dim` rows or rows of different weights, or both sides have a rank above 1,024,
    the eigenvectors of ``F^T sigma2 F`` are used instead: roots below 3e-8 of the largest are then lost.
    """

    def __init__(
        self, reference: Any, *, running_stats: RunningStats | None = None, precision: str = "float32"
    ) -> None:
        super().__init__()
        (source,), self._exponent = rescaled_inputs(open_input(reference, "reference", precision=precision))
        stats = source.stats
        self.running_stats = _check_running_stats(running_stats, stats.dim)
        #: In the unit ``2^exponent`` of the features, as is the factor.
        self._trace = float(np.trace(stats.sigma))
        low = np.zeros(stats.dim) if source.moments is None else mean_low_of(source.moments, stats.mu)
        for name, digits in (("_mu", stats.mu), ("_mu_low", low)):
            self.register_buffer(name, torch.from_numpy(np.ldexp(digits, self._exponent)), persistent=False)
        # F^T, (rank, dim)
        self.register_buffer("_factor", torch.from_numpy(np.array(stats.factor.T)), persistent=False)

    @property
    def dim(self) -> int:
        """Number of columns of the features."""
        return len(self._mu)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The distance; in training mode the batch is then added to `running_stats`.

        Parameters
        ----------
        features : (n, dim) tensor
            float16, bfloat16, float32 or float64, on the device of this module.

        Returns
        -------
        scalar tensor
            float64 for features of float64, else float32; never negative. Differentiable once.

        Raises
        ------
        TypeError, ValueError
            If the features are invalid, hold NaN or infinity, or the statistics have fewer than 2 rows; or if the
            distance is beyond the range of the result's dtype.
        """
        batch = check_features(features, self._mu, "the reference")
        running = self.running_stats
        if running is not None and running.device != batch.device:
            raise ValueError(f"features are on {batch.device}, but running_stats is on {running.device}: use .to()")
        origin = Mean(self._mu, self._mu_low)
        with holding(running):
            combined = stats_of_rows(batch, origin) if running is None else running.combined_with(batch, origin)
            if combined.divisor <= 0:
                raise ValueError(f"features: a covariance needs at least 2 samples, got {len(batch)}")
            needs_gradient = torch.is_grad_enabled() and features.requires_grad
            value, gradient = self._in_units(features, origin.subtracted_from(batch), combined, needs_gradient)
            if running is not None and running.training:
                running.push(features)
        return value if gradient is None else _WithGradient.apply(features, value, gradient)

    def _in_units(
        self, features: torch.Tensor, batch: torch.Tensor, combined: CombinedStats, needs_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The distance, and if needed its gradient (n, dim), computed in a unit near the size of the deviations."""
        own = math.ldexp(math.sqrt(self._trace), self._exponent)
        largest = max(own, float(torch.maximum(batch.abs().max(), combined.mean.abs().max())))
        exponent = exponent_of(largest)
        scale = 2.0 ** (-exponent // 2)  # its square may leave the range of float64
        scaled = CombinedStats(
            weight=combined.weight,
            divisor=combined.divisor,
            mean=combined.mean * scale * scale,
            rows=None if combined.rows is None else combined.rows * scale * scale,
            scatter=None if combined.scatter is None else combined.scatter * scale * scale * scale * scale,
        )
        reference = math.ldexp(1.0, self._exponent - exponent)
        factor = self._factor if reference == 1 else self._factor * reference
        terms = _Terms(factor, self._trace * reference**2, self.dim)
        value, gradient = terms.value_and_gradient(batch * scale * scale, scaled, needs_gradient)
        dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
        result = (value / scale / scale / scale / scale).to(dtype)
        in_range = exponent == 0 and math.isfinite(largest)
        if not in_range and not (result.isfinite() and (result > 0 or value == 0)):
            raise ValueError(
                f"the distance of features of up to {float(features.detach().abs().max()):.6g} leaves the range of "
                f"{str(dtype).removeprefix('torch.')}: multiply features and reference by the same factor first"
            )
        return result, None if gradient is None else gradient / scale / scale

    def extra_repr(self) -> str:
        return f"dim={self.dim}, rank={len(self._factor)}"


def frechet_loss(
    features: torch.Tensor, reference: Any, *, running_stats: RunningStats | None = None, precision: str = "float32"
) -> torch.Tensor:
    """Fréchet distance of features to a reference, differentiable in the features.

    Every call reads and factors the reference. A training loop should use `FrechetLoss`, which does so once; its
    documentation has the formulas.

    Parameters
    ----------
    features : (n, dim) tensor
        float16, bfloat16, float32 or float64.
    reference : path, GaussianStats, Moments or (n, dim) features
        Fixed side of the distance.
    running_stats : FeatureQueue or MovingMoments, optional
        Statistics of earlier batches, on the device of the features. If it is in training mode, the batch is added.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic for a reference given as features, as in `fidfast.fid`.

    Returns
    -------
    scalar tensor
        float64 for features of float64, else float32; never negative. Differentiable once.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If an argument is invalid; the message names it.
    """
    loss = FrechetLoss(reference, precision=precision)
    if isinstance(features, torch.Tensor):
        loss.to(features.device)
    loss.running_stats = _check_running_stats(running_stats, loss.dim)
    return loss(features)


def _check_running_stats(running_stats: RunningStats | None, dim: int) -> RunningStats | None:
    if running_stats is None:
        return None
    if not isinstance(running_stats, RunningStats):
        raise TypeError(
            f"running_stats must be a FeatureQueue, MovingMoments or None, got {type(running_stats).__name__}"
        )
    if running_stats.dim != dim:
        raise ValueError(f"running_stats has dim {running_stats.dim}, but reference has dim {dim}")
    return running_stats


class _Terms:
    """The distance of a batch to a reference with the factor F^T (rank, dim) and the trace of its covariance."""

    def __init__(self, factor: torch.Tensor, trace: float, dim: int) -> None:
        self._factor = factor
        self._trace = trace
        self._dim = dim

    def value_and_gradient(
        self, batch: torch.Tensor, combined: CombinedStats, needs_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The distance, and if needed its gradient in the rows of the batch (n, dim); both minus the reference mean."""
        use_rows = combined.rows is not None and min(len(combined.rows), len(self._factor)) <= _MAX_SVD_RANK
        terms = self._terms_from_rows if use_rows else self._terms_from_scatter
        centred = batch - combined.mean if combined.rows is None else combined.rows[-len(batch) :]
        trace, root, mapped = terms(centred, combined, needs_gradient)
        d = combined.mean
        value = (d @ d + self._trace + trace - 2 * root).clamp(min=0)
        if mapped is None:
            return value, None
        return value, 2 / combined.weight * d + 2 / combined.divisor * (centred - mapped)

    def _terms_from_rows(
        self, centred: torch.Tensor, combined: CombinedStats, needs_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """``tr sigma2``, ``tr (sigma1 sigma2)^(1/2)`` and ``T (x - mu2)`` (n, dim), from all rows."""
        assert combined.rows is not None
        scale = math.sqrt(combined.divisor)
        reflected = _reflect(combined.rows / scale)
        reflected[0] = 0  # the direction of the mean, along which centred rows are zero except for rounding
        columns = reflected.T  # B (dim, rows)
        trace = columns.square().sum()
        root, polar = _nuclear_norm(self._factor @ columns, self._rounding(trace, combined))
        if not needs_gradient:
            return trace, root, None
        mapped = _reflect(polar.T)[-len(centred) :] @ self._factor
        return trace, root, scale * mapped

    def _terms_from_scatter(
        self, centred: torch.Tensor, combined: CombinedStats, needs_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The same from mean and scatter."""
        scatter = combined.scatter
        if combined.rows is not None:
            scatter = combined.rows.T @ combined.rows
        assert scatter is not None
        sigma = scatter / combined.divisor
        trace = sigma.trace()
        form = self._factor @ sigma @ self._factor.T
        root, vectors, inverse = _trace_of_root(form, self._rounding(trace, combined))
        if not needs_gradient:
            return trace, root, None
        # T = F V diag(inverse) V^T F^T
        mapped = (centred @ self._factor.T @ vectors * inverse) @ vectors.T @ self._factor
        return trace, root, mapped

    def _rounding(self, trace: torch.Tensor, combined: CombinedStats) -> torch.Tensor:
        """Bound on singular values of F^T B that are rounding errors of the product, as in the core, or of centring."""
        moment = trace + combined.weight / combined.divisor * combined.mean.square().sum()
        return 4 * _EPSILON * math.sqrt(self._dim * self._trace) * moment.sqrt()


class _WithGradient(torch.autograd.Function):
    """A value with a precomputed gradient in the features."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        ctx.features = features  # for its dtype and its place in the graph; the numbers may have changed
        return value

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        slope = (outer * gradient).to(ctx.features.dtype)
        return _DifferentiableOnce.apply(slope, ctx.features) if torch.is_grad_enabled() else slope, None, None


class _DifferentiableOnce(torch.autograd.Function):
    """Raises an error for the second derivative, which would otherwise silently be zero."""

    @staticmethod
    def forward(ctx: Any, slope: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return slope.view_as(slope)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> Any:
        raise RuntimeError("the Fréchet loss is differentiable once: second derivatives are not implemented")


def _reflect(rows: torch.Tensor) -> torch.Tensor:
    """H times rows (n, dim), for the Householder reflection H that maps (1, ..., 1)^T to -sqrt(n) (1, 0, ..., 0)^T."""
    n = len(rows)
    normal = torch.full((n,), 1 / math.sqrt(n), dtype=rows.dtype, device=rows.device)
    normal[0] += 1
    return rows - torch.outer(normal / (1 + 1 / math.sqrt(n)), normal @ rows)


def _nuclear_norm(cross: torch.Tensor, rounding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The nuclear norm of a matrix, and its gradient U V^T; singular values up to `rounding` count as zero."""
    u, s, vh = torch.linalg.svd(cross, full_matrices=False)
    kept = s > rounding
    return (s * kept).sum(), (u * kept) @ vh


def _trace_of_root(form: torch.Tensor, rounding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Trace of the root of a positive semidefinite matrix (n, n), its eigenvectors, and their inverse roots (n,).

    Eigenvalues below their rounding error, a few epsilons times the norm of the matrix, and roots up to `rounding`
    count as zero, and so do their inverses.
    """
    values, vectors = torch.linalg.eigh(form)
    kept = values > torch.maximum(4 * _EPSILON * torch.linalg.vector_norm(values), rounding.square())
    roots = torch.where(kept, values, 0).sqrt()
    return roots.sum(), vectors, torch.where(kept, 1 / roots, 0)
