"""The Fréchet distance as a metric during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fidfast._arguments import require_bool, require_integer
from fidfast._inputs import open_input, warn_of_extractors
from fidfast._metrics.frechet import frechet_distance
from fidfast._metrics.uncertainty import Estimate, estimate
from fidfast._stats import GaussianStats, Moments
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.named import name_of_extractor, open_extractor
from fidfast.torch._extractors.networks import device_of
from fidfast.torch._images.batches import features_of_batch, rows_of
from fidfast.torch._images.pixels import image_batch
from fidfast.torch._processes.reduction import failing_together, moments_of_all
from fidfast.torch._training.packing import TensorStateModule, pack_blocks, unpack_blocks
from fidfast.torch._training.sampling import draw_samples, require_at_least

__all__ = ["FrechetDistance"]


class FrechetDistance(TensorStateModule):
    """Fréchet distance of a stream of images, or of their features, to a fixed reference.

    A module that moves with ``.to()``. Its ``state_dict`` holds the moments as one uint8 tensor, so that an interrupted
    run continues with identical results, but not the network's weights. A state that was saved without the metric
    leaves the moments unchanged.

    Parameters
    ----------
    extractor : str, Extractor, network, callable or None
        As in `moments_of_images`; None if only features are added.
    reference : path, GaussianStats, Moments or (n, dim) features
        Fixed side of the distance. Only its mean and covariance are kept.
    ddof : int, default 1
        As in `fidfast.Moments.stats`.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic of the moments, as in `fidfast.Moments`.
    blocks : int, default 1
        Number of blocks of the moments, as in `fidfast.Moments`; `estimate` needs 20 or more.
    group : torch.distributed.ProcessGroup, optional
        Processes whose rows `compute` combines, if a process group is initialised. By default the default group.
    sync : bool, default True
        Whether `compute`, `estimate` and `update_samples` combine the processes. With ``sync=False``, or with this
        argument of the methods, one process can call them alone.
    persistent : bool, default True
        Whether the moments are part of ``state_dict``. They take 8 dim (dim + 1027) bytes for each block, 50 MB for
        2,048 features.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If the extractor or the reference is invalid.

    Warns
    -----
    UserWarning
        If the reference was computed with another extractor.
    """

    state_key = "moments"

    def __init__(
        self,
        extractor: Any,
        reference: Any,
        *,
        ddof: int = 1,
        precision: str = "float32",
        blocks: int = 1,
        group: Any = None,
        sync: bool = True,
        persistent: bool = True,
    ) -> None:
        super().__init__()
        self.sync = require_bool("sync", sync)
        self.persistent = require_bool("persistent", persistent)
        # In a tuple, so that torch does not register the network, which never changes, as a submodule.
        self._extractor_holder: tuple[Extractor | None] = (
            None if extractor is None else open_extractor(extractor).prepared(compile=False),
        )
        asked = name_of_extractor(extractor)
        self._reference = open_input(reference, "reference", precision=precision, extractor=asked).stats
        if self.extractor is not None and self.extractor.num_features not in (None, self._reference.dim):
            raise ValueError(
                f"reference has dim {self._reference.dim}, but the extractor {self.extractor.name} has dim "
                f"{self.extractor.num_features}"
            )
        self._ddof = require_integer("ddof", ddof, 0)
        self._group = group
        name = None if self.extractor is None else self.extractor.full_name
        self._moments = Moments(
            self._reference.dim, precision=precision, extractor=name or self._reference.extractor, blocks=blocks
        )
        if self.extractor is not None:
            warn_of_extractors(self._moments, self._reference)
        model = None if self.extractor is None else self.extractor.model
        marker = torch.empty(0, device=device_of(model) or "cpu")  # on the device of the module
        self.register_buffer("_device_marker", marker, persistent=False)

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

    def update(self, images: Any) -> None:
        """Add a batch of images.

        Parameters
        ----------
        images : (n, 3, height, width) or (n, 1, height, width) tensor
            uint8, or floats from 0 to 1. Grey images are repeated to three channels. Of an array of NumPy or another
            library the channels may also be last.

        Raises
        ------
        TypeError, ValueError
            If the images are invalid, or their features do not match the reference.
        """
        extractor = self._require_extractor()
        images = image_batch(images)
        if len(images) > 0:
            self._moments.update(features_of_batch(extractor, images, self._device_marker.device))

    def update_samples(
        self,
        generator: Callable[[int], torch.Tensor],
        num_samples: int,
        *,
        batch_size: int = 64,
        seed: int = 0,
        sync: bool | None = None,
        progress: bool = False,
    ) -> None:
        """Draw samples from a generator and add them; with several processes, each adds its share.

        Parameters
        ----------
        generator : callable
            ``generator(n)`` returns n images, as in `moments_of_samples`.
        num_samples : int
            Number of samples of all processes.
        sync : bool, optional
            Whether each process adds its share, else all samples. By default as in the constructor.
        batch_size, seed, progress
            As in `moments_of_samples`.

        Raises
        ------
        TypeError, ValueError
            If an argument or the images are invalid. The batches before it have been added.
        RuntimeError
            If another process raises an error.
        """

        def add(images: torch.Tensor, first: int | None) -> None:
            if first is not None:
                self.update(images)

        with failing_together(self._group, self._syncs(sync)):
            self._require_extractor()
            require_at_least(num_samples=(num_samples, 1))
            draw_samples(
                generator,
                num_samples,
                add,
                batch_size=batch_size,
                seed=seed,
                device=self._device_marker.device,
                group=self._group,
                sync=self._syncs(sync),
                progress=progress,
            )

    def update_features(self, features: Any) -> None:
        """Add a batch of features.

        Parameters
        ----------
        features : (n, dim) tensor or array
            Of any floating-point type and on any device; detached.

        Raises
        ------
        TypeError, ValueError
            If the features do not match the reference.
        """
        self._moments.update(rows_of(features))

    def forward(self, images: Any) -> None:
        """Same as `update`."""
        self.update(images)

    def compute(self, *, sync: bool | None = None) -> float:
        """Distance of all samples since the last reset, of all processes of the group.

        Parameters
        ----------
        sync : bool, optional
            Whether to combine the processes, which must then all call this. By default as in the constructor.

        Raises
        ------
        ValueError
            If there are fewer than 2 samples.
        """
        moments = moments_of_all(self._moments, self._group, self._syncs(sync))
        return frechet_distance(moments.stats(ddof=self._ddof), self._reference)

    def estimate(self, *, sync: bool | None = None) -> Estimate:
        """Distance with its error bar and bias, of all samples since the last reset, of all processes of the group.

        The reference is taken as exact, even if it was given as features. Its sampling error, which is the same in
        every measurement, is included in neither the error bar nor the bias.

        Parameters
        ----------
        sync : bool, optional
            As in `compute`.

        Returns
        -------
        Estimate
            As `fidfast.estimate`, whose covariances have ``ddof=1``: `value` equals `compute` for this `ddof`.

        Raises
        ------
        ValueError
            If the metric has fewer than 2 blocks, or there are too few samples.
        """
        if len(self._moments.blocks) < 2:
            raise ValueError(
                "an error bar needs blocks of samples, but the metric has blocks=1: "
                "create it with FrechetDistance(..., blocks=20)"
            )
        return estimate(moments_of_all(self._moments, self._group, self._syncs(sync)), self._reference)

    def reset(self) -> None:
        """Remove all samples; the reference is kept."""
        self._moments.reset()

    def extra_repr(self) -> str:
        moments, number = self._moments, len(self._moments.blocks)
        blocks = f", blocks={number}" if number > 1 else ""
        return f"dim={moments.dim}, num_samples={moments.num_samples}, extractor={moments.extractor!r}{blocks}"

    def _require_extractor(self) -> Extractor:
        if self.extractor is None:
            raise ValueError("this metric has no extractor: call update_features with features")
        return self.extractor

    def _syncs(self, sync: bool | None) -> bool:
        return self.sync if sync is None else require_bool("sync", sync)

    def packed_state(self) -> torch.Tensor:
        """As in `TensorStateModule`."""
        return pack_blocks(self._moments)

    def set_packed_state(self, values: torch.Tensor) -> None:
        """As in `TensorStateModule`."""
        mine = self._moments
        self._moments = unpack_blocks(values, mine.dim, len(mine.blocks), extractor=mine.extractor)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> FrechetDistance:
        super()._apply(fn, recurse)
        if self.extractor is not None:
            # Only the device: `.half()` of an enclosing module is not meant for the extractor.
            self._extractor_holder = (self.extractor.prepared(device=self._device_marker.device),)
        return self
