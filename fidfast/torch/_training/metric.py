"""The Fréchet distance as a metric during training."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from fidfast._inputs import open_input
from fidfast._metrics.frechet import frechet_distance
from fidfast._stats import GaussianStats, Moments
from fidfast.torch._extractors.adapters import as_extractor
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.named import load_extractor
from fidfast.torch._extractors.resize import RESIZES
from fidfast.torch._images.batches import as_pixels
from fidfast.torch._training.distributed import all_reduce

__all__ = ["FrechetDistance"]


class FrechetDistance(torch.nn.Module):
    """Fréchet distance of a stream of images, or of their features, to a fixed reference.

    A module that moves with ``.to()``. Its ``state_dict`` holds the moments, so that an interrupted run continues with
    identical results, but not the network's weights.

    Parameters
    ----------
    extractor : str, Extractor, network, callable or None
        As in `moments_of_images`; None if only features are added.
    reference : path, GaussianStats, Moments or (n, dim) features
        Fixed side of the distance.
    ddof : int, default 1
        As in `fidfast.Moments.stats`.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic of the moments, as in `fidfast.Moments`.
    group : torch.distributed.ProcessGroup, optional
        Processes whose rows `compute` combines, if a process group is initialised. By default the default group.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If the extractor or the reference is invalid.
    """

    def __init__(
        self,
        extractor: Any,
        reference: Any,
        *,
        ddof: int = 1,
        precision: str = "float32",
        group: Any = None,
    ) -> None:
        super().__init__()
        if isinstance(extractor, str):
            extractor = load_extractor(extractor)
        # In a tuple, so that torch does not register the network, which never changes, as a submodule.
        self._extractor_holder: tuple[Extractor | None] = (
            None if extractor is None else as_extractor(extractor).prepared(compile=False),
        )
        self._reference = open_input(reference, "reference", precision=precision).stats
        self._ddof = ddof
        self._group = group
        name = None if self.extractor is None else self.extractor.full_name
        self._moments = Moments(self._reference.dim, precision=precision, extractor=name or self._reference.extractor)
        self.register_buffer("_device_marker", torch.empty(0), persistent=False)  # on the device of the module

    @property
    def extractor(self) -> Extractor | None:
        """The prepared extractor, or None."""
        return self._extractor_holder[0]

    @property
    def reference(self) -> GaussianStats:
        """Statistics of the reference."""
        return self._reference

    @property
    def moments(self) -> Moments:
        """Moments of the samples that this process has seen since the last reset."""
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
            If the images are invalid, or their features do not match the reference.
        """
        extractor = self.extractor
        if extractor is None:
            raise ValueError("this metric has no extractor: call update_features with features")
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (n, 3, height, width), got shape {tuple(images.shape)}")
        if len(images) == 0:
            return
        with torch.inference_mode():
            pixels = as_pixels(images.to(self._device_marker.device))
            if extractor.input_size is not None:
                pixels = RESIZES[extractor.resize](pixels.float(), extractor.input_size)
            self.update_features(extractor(pixels))

    def update_features(self, features: torch.Tensor) -> None:
        """Add a batch of features.

        Parameters
        ----------
        features : (n, dim) tensor
            Of any floating-point type and on any device; detached.

        Raises
        ------
        TypeError, ValueError
            If the features do not match the reference.
        """
        features = features.detach()
        self._moments.update(features if features.is_cuda else features.cpu())

    def forward(self, images: torch.Tensor) -> None:
        """Same as `update`."""
        self.update(images)

    def compute(self) -> float:
        """Distance of all samples since the last reset, of all processes of the group.

        Raises
        ------
        ValueError
            If there are fewer than 2 samples.
        """
        moments = self._moments
        if dist.is_available() and dist.is_initialized() and dist.get_world_size(self._group) > 1:
            moments = copy.copy(moments)  # this process keeps its own moments
            all_reduce(moments, group=self._group)
        return frechet_distance(moments.stats(ddof=self._ddof), self._reference)

    def reset(self) -> None:
        """Remove all samples; the reference is kept."""
        self._moments.reset()

    def extra_repr(self) -> str:
        return (
            f"dim={self._moments.dim}, num_samples={self._moments.num_samples}, extractor={self._moments.extractor!r}"
        )

    # Hooks of torch for state that is not a parameter or buffer -------------------------------------------------------

    def get_extra_state(self) -> dict[str, Any]:
        """The moments as tensors and numbers, which ``torch.load(weights_only=True)`` accepts."""
        state = self._moments.state()
        return {key: torch.from_numpy(np.array(value)) if value.ndim else value.item() for key, value in state.items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Inverse of `get_extra_state`."""
        arrays = {
            key: np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value) for key, value in state.items()
        }
        moments = Moments.from_state({**arrays, "extractor": np.asarray(self._moments.extractor or "")})
        if moments.dim != self._moments.dim:
            raise ValueError(f"the state has dim {moments.dim}, but the reference has dim {self._moments.dim}")
        self._moments = moments

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> FrechetDistance:
        super()._apply(fn, recurse)
        extractor = self.extractor
        if extractor is not None and isinstance(extractor.model, torch.nn.Module):
            # Only the device: `.half()` of an enclosing module is not meant for the extractor.
            extractor.model.to(self._device_marker.device)
        return self
