"""The Fréchet distance as a metric of a training run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from fidfast import _core
from fidfast._inputs import as_stats
from fidfast._metrics.frechet import frechet_distance
from fidfast._stats.gaussian import GaussianStats
from fidfast._stats.moments import Moments
from fidfast.torch._extractors.extractors import Extractor, as_extractor
from fidfast.torch._extractors.named import load_extractor
from fidfast.torch._extractors.resize import RESIZES
from fidfast.torch._images.loading import as_pixels
from fidfast.torch._training.distributed import all_reduce

__all__ = ["FrechetDistance"]


class FrechetDistance(torch.nn.Module):
    """Fréchet distance of a stream of images, or of their features, to a fixed reference.

    A module: it moves with ``.to()``, and its state goes into ``state_dict``, from which a run goes on to the same
    digits. The network's weights are not part of that state.

    Parameters
    ----------
    extractor : str, Extractor, network, callable or None
        As in `moments_of_images`; None where only features will come.
    reference : path, GaussianStats, Moments or (n, dim) features
        The side that stays.
    ddof : int, default 1
        As in `Moments.stats`.
    moments_precision : {"float32", "float64"}, default "float32"
        As `precision` of `Moments`.
    group : torch.distributed.ProcessGroup, optional
        Whose rows `compute` brings together, where a process group is initialised; the default group unless given.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If the extractor or the reference is not usable.
    """

    def __init__(
        self,
        extractor: Any,
        reference: Any,
        *,
        ddof: int = 1,
        moments_precision: str = "float32",
        group: Any = None,
    ) -> None:
        super().__init__()
        if isinstance(extractor, str):
            extractor = load_extractor(extractor)
        # Hidden from torch's list of submodules, so that checkpoints of a run do not hold a network that never changes.
        self._hidden: tuple[Extractor | None] = (
            None if extractor is None else as_extractor(extractor).prepared(compile=False),
        )
        self._reference = as_stats(reference, "reference", moments_precision)
        self._ddof = ddof
        self._group = group
        name = None if self.extractor is None else self.extractor.full_name
        self._moments = Moments(self._reference.dim, moments_precision, name or self._reference.extractor)
        self.register_buffer("_place", torch.empty(0), persistent=False)  # where the module is

    @property
    def extractor(self) -> Extractor | None:
        """The extractor as it is used, or None."""
        return self._hidden[0]

    @property
    def reference(self) -> GaussianStats:
        """The statistics of the side that stays."""
        return self._reference

    @property
    def moments(self) -> Moments:
        """What this process has seen since the last reset."""
        return self._moments

    def update(self, images: torch.Tensor) -> None:
        """Add a batch of images.

        Parameters
        ----------
        images : (n, 3, height, width) tensor
            uint8, or floats from 0 to 1.

        Raises
        ------
        TypeError, ValueError
            If they are no such images, or the features do not fit the reference.
        """
        extractor = self.extractor
        if extractor is None:
            raise ValueError("this metric has no extractor; give it features with update_features")
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (n, 3, height, width), got shape {tuple(images.shape)}")
        if len(images) == 0:
            return
        with torch.inference_mode():
            pixels = as_pixels(images.to(self._place.device))
            if extractor.input_size is not None:
                pixels = RESIZES[extractor.resize](pixels.float(), extractor.input_size)
            self.update_features(extractor(pixels))

    def update_features(self, features: torch.Tensor) -> None:
        """Add a batch of features (n, dim), of any float type and on any device; their gradient is not followed."""
        features = features.detach()
        self._moments.update(features if features.is_cuda else features.cpu())

    def forward(self, images: torch.Tensor) -> None:
        """The same as `update`."""
        self.update(images)

    def compute(self) -> float:
        """The distance of all that was seen, by all processes of the group, since the last reset.

        Raises
        ------
        ValueError
            If fewer than 2 samples were seen.
        """
        moments = self._moments
        if dist.is_available() and dist.is_initialized() and dist.get_world_size(self._group) > 1:
            moments = moments.__copy__()  # this process goes on with its own
            all_reduce(moments, self._group)
        return frechet_distance(self._reference, moments.stats(self._ddof))

    def reset(self) -> None:
        """Forget what was seen; the reference stays."""
        self._moments.reset()

    def extra_repr(self) -> str:
        return (
            f"dim={self._moments.dim}, num_samples={self._moments.num_samples}, extractor={self._moments.extractor!r}"
        )

    # torch's own hooks for what is no parameter or buffer -----------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        """The moments as tensors and plain values, which ``torch.load(weights_only=True)`` reads."""
        state = self._moments._whole().state()
        return {
            key: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
            for key, value in state.items()
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        plain = {key: value.cpu().numpy() if isinstance(value, torch.Tensor) else value for key, value in state.items()}
        core = _core.Moments.from_state(plain)  # type: ignore[arg-type]  # checked there
        if core.dim != self._moments.dim:
            raise ValueError(f"the state has dim {core.dim}, but the reference has dim {self._moments.dim}")
        self._moments = Moments._of_blocks([core], self._moments.extractor)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> FrechetDistance:
        super()._apply(fn, recurse)
        extractor = self.extractor
        if extractor is not None and isinstance(extractor.model, torch.nn.Module):
            # To the device only: `.half()` on a whole training module is not meant for the features.
            extractor.model.to(self._place.device)
        return self
