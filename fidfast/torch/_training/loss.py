"""The Fréchet distance as a loss: its value, and its gradient in the features of a batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from fidfast._inputs import as_stats
from fidfast.torch._training.running import Joined, Running, Uncast, checked, joined_rows

__all__ = ["FrechetLoss", "frechet_loss"]

_EPSILON = torch.finfo(torch.float64).eps

#: Up to this rank singular values are taken, beyond it the eigenvalues of their squares: as the core does.
_REFINED = 1024


class FrechetLoss(Uncast):
    """Fréchet distance of features to a fixed reference, differentiable in the features.

    In training mode (``.train()``, the default) every call also takes the batch into `moments`, after its loss was
    computed; in evaluation mode (``.eval()``) no call changes them. The reference moves with ``.to()`` and stays in
    float64; it is not part of ``state_dict``, while `moments` are.

    Parameters
    ----------
    reference : path, GaussianStats, Moments or (n, dim) features
        The side that stays. It is factored here, once.
    moments : FeatureQueue or MovingMoments, optional
        What went before. The loss is then the distance of the statistics of past and batch together, and its
        gradient that with the past held constant. Without, the statistics are the batch's own.
    precision : {"float32", "float64"}, default "float32"
        As in `fidfast.fid`, of a reference that is given as features.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If the reference or the moments are not usable, or their dims differ.

    Notes
    -----
    With the factor ``sigma1 = F F^T``, the batch's centred rows ``B B^T = sigma2`` and the singular value
    decomposition ``F^T B = U s V^T``, the trace of the root is ``sum s`` and its gradient in B is ``F U V^T = T B``: no
    matrix of size (dim, dim) is factored, and nothing is squared. A row x of n has the gradient
    ``2 / n (mu2 - mu1) + 2 / (n - 1) (I - T)(x - mu2)``. Directions whose s may be rounding, up to
    ``4 eps sqrt(dim tr(sigma1) E|x|^2)``, are left out of both: there the distance has a kink, and zero is one of its
    subgradients. All of it is computed in float64, whatever the features are.

    Where `moments` hold more than `dim` rows or weighted ones, and where both sides have a rank above 1,024, the same
    follows from the eigenvectors of ``F^T sigma2 F``: roots below 3e-8 of the largest are then lost.
    """

    def __init__(self, reference: Any, moments: Running | None = None, *, precision: str = "float32") -> None:
        super().__init__()
        stats = as_stats(reference, "reference", precision)
        self.moments = _fitting(moments, stats.dim)
        self._trace = float(np.trace(stats.sigma))
        self.register_buffer("_mu", torch.from_numpy(np.array(stats.mu)), persistent=False)
        # F^T, (rank, dim)
        self.register_buffer("_factor", torch.from_numpy(np.array(stats._core.factor)), persistent=False)

    @property
    def dim(self) -> int:
        """Number of columns of the features."""
        return len(self._mu)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The distance, and in training mode the batch into `moments`.

        Parameters
        ----------
        features : (n, dim) tensor
            float16, bfloat16, float32 or float64, on the device of this module.

        Returns
        -------
        scalar tensor
            In float64 for features of float64, else in float32; never negative. Differentiable once.

        Raises
        ------
        TypeError, ValueError
            If the features do not fit, hold NaN or infinity, or fewer than 2 rows stand behind the statistics.
        """
        batch = checked(features, self._mu, "the reference")
        if self.moments is not None and self.moments.device != batch.device:
            raise ValueError(f"features are on {batch.device}, but moments is on {self.moments.device}: use .to()")
        joined = joined_rows(batch) if self.moments is None else self.moments.joined(batch)
        if joined.divisor <= 0:
            raise ValueError(f"features: a covariance needs at least 2 samples, got {len(batch)}")
        differentiable = torch.is_grad_enabled() and features.requires_grad
        value, gradient = self._value_and_gradient(batch, joined, differentiable)
        if self.moments is not None and self.moments.training:
            self.moments.push(features)
        value = value.to(torch.float64 if features.dtype == torch.float64 else torch.float32)
        return value if gradient is None else _WithGradient.apply(features, value, gradient)

    def _value_and_gradient(
        self, batch: torch.Tensor, joined: Joined, differentiable: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The distance, and its gradient in the rows of the batch (n, dim) where that is asked for."""
        of_rows = joined.rows is not None and min(len(joined.rows), len(self._factor)) <= _REFINED
        trace, root, mapped = (self._of_rows if of_rows else self._of_scatter)(batch, joined, differentiable)
        d = joined.mean - self._mu
        value = (d @ d + self._trace + trace - 2 * root).clamp(min=0)
        if mapped is None:
            return value, None
        return value, 2 / joined.weight * d + 2 / joined.divisor * (batch - joined.mean - mapped)

    def _of_rows(
        self, batch: torch.Tensor, joined: Joined, differentiable: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """``tr sigma2``, ``tr (sigma1 sigma2)^(1/2)`` and ``T (x - mu2)`` (n, dim), from all rows."""
        assert joined.rows is not None
        scale = math.sqrt(joined.divisor)
        reflected = _reflected((joined.rows - joined.mean) / scale)
        reflected[0] = 0  # the direction of the mean, in which centred rows are zero but for rounding
        columns = reflected.T  # B (dim, rows)
        trace = columns.square().sum()
        root, polar = _nuclear(self._factor @ columns, self._rounding(trace, joined))
        if not differentiable:
            return trace, root, None
        mapped = _reflected(polar.T)[-len(batch) :] @ self._factor
        return trace, root, scale * mapped

    def _of_scatter(
        self, batch: torch.Tensor, joined: Joined, differentiable: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The same from mean and scatter."""
        scatter = joined.scatter
        if scatter is None:
            centred = joined.rows - joined.mean
            scatter = centred.T @ centred
        sigma = scatter / joined.divisor
        trace = sigma.trace()
        root, vectors, inverse = _root(self._factor @ sigma @ self._factor.T, self._rounding(trace, joined))
        if not differentiable:
            return trace, root, None
        # T = F V diag(inverse) V^T F^T
        mapped = ((batch - joined.mean) @ self._factor.T @ vectors * inverse) @ vectors.T @ self._factor
        return trace, root, mapped

    def _rounding(self, trace: torch.Tensor, joined: Joined) -> torch.Tensor:
        """What a singular value of F^T B may be by rounding alone: of the product, as in the core, and of centring."""
        moment = trace + joined.weight / joined.divisor * joined.mean.square().sum()
        return 4 * _EPSILON * math.sqrt(self.dim * self._trace) * moment.sqrt()

    def extra_repr(self) -> str:
        return f"dim={self.dim}, rank={len(self._factor)}"


def frechet_loss(
    features: torch.Tensor, reference: Any, moments: Running | None = None, *, precision: str = "float32"
) -> torch.Tensor:
    """Fréchet distance of features to a reference, differentiable in the features.

    The reference is read and factored anew in each call; a training loop does that once, with `FrechetLoss`, where the
    formulas stand.

    Parameters
    ----------
    features : (n, dim) tensor
        float16, bfloat16, float32 or float64.
    reference : path, GaussianStats, Moments or (n, dim) features
        The side that stays.
    moments : FeatureQueue or MovingMoments, optional
        What went before, on the device of the features. Where it is in training mode, the batch is taken into it.
    precision : {"float32", "float64"}, default "float32"
        As in `fidfast.fid`, of a reference that is given as features.

    Returns
    -------
    scalar tensor
        In float64 for features of float64, else in float32; never negative. Differentiable once.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If an argument is not usable; the message names it.
    """
    loss = FrechetLoss(reference, precision=precision)
    if isinstance(features, torch.Tensor):
        loss.to(features.device)
    loss.moments = _fitting(moments, loss.dim)
    return loss(features)


def _fitting(moments: Running | None, dim: int) -> Running | None:
    if moments is not None and not isinstance(moments, Running):
        raise TypeError(f"moments must be a FeatureQueue, MovingMoments or None, got {type(moments).__name__}")
    if moments is not None and moments.dim != dim:
        raise ValueError(f"moments has dim {moments.dim}, but reference has dim {dim}")
    return moments


class _WithGradient(torch.autograd.Function):
    """A value whose gradient in the features is known already."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, value: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        ctx.features = features  # not for their numbers, which may change since
        return value

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        slope = (outer * gradient).to(ctx.features.dtype)
        return _DifferentiableOnce.apply(slope, ctx.features) if torch.is_grad_enabled() else slope, None, None


class _DifferentiableOnce(torch.autograd.Function):
    """Refuses the second derivative, which else would silently be taken for zero."""

    @staticmethod
    def forward(ctx: Any, slope: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return slope.view_as(slope)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> Any:
        raise RuntimeError("the Fréchet loss is differentiable once: there is no gradient of its gradient")


def _reflected(rows: torch.Tensor) -> torch.Tensor:
    """H times rows (n, dim), for the Householder reflection H that takes (1, ..., 1)^T to -sqrt(n) (1, 0, ..., 0)^T."""
    n = len(rows)
    normal = torch.full((n,), 1 / math.sqrt(n), dtype=rows.dtype, device=rows.device)
    normal[0] += 1
    return rows - torch.outer(normal / (1 + 1 / math.sqrt(n)), normal @ rows)


def _nuclear(cross: torch.Tensor, rounding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The nuclear norm of a matrix, and its gradient U V^T; singular values within `rounding` count as zero."""
    u, s, vh = torch.linalg.svd(cross, full_matrices=False)
    kept = s > rounding
    return (s * kept).sum(), (u * kept) @ vh


def _root(form: torch.Tensor, rounding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The trace of the root of a positive semidefinite matrix (n, n), its eigenvectors, and their inverse roots (n,).

    Eigenvalues below their rounding error, some epsilons of the matrix's norm, and roots within `rounding` count as
    zero, and so do their inverses.
    """
    values, vectors = torch.linalg.eigh(form)
    kept = values > torch.maximum(4 * _EPSILON * torch.linalg.vector_norm(values), rounding.square())
    roots = torch.where(kept, values, 0).sqrt()
    return roots.sum(), vectors, torch.where(kept, 1 / roots, 0)
