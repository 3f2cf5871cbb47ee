"""The Fréchet distance as metrics of ignite: attached to an engine, they fill ``engine.state.metrics``.

`FID` takes the place of ``ignite.metrics.FID``: one import line changes. `FrechetDistance` compares with a reference
that stays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fidfast.frechet import frechet_distance
from fidfast.moments import Moments
from fidfast.torch import metric
from fidfast.torch.distributed import all_reduce
from fidfast.torch.packing import packed, unpacked

try:
    import ignite.distributed as idist
    import ignite.metrics
    from ignite.exceptions import NotComputableError
except ImportError as error:
    raise ImportError(f"fidfast.torch.ignite needs ignite: pip install pytorch-ignite ({error})") from error

__all__ = ["FID", "FrechetDistance"]


def _same(output: Any) -> Any:
    return output


class FID(ignite.metrics.FID):
    """Fréchet distance between two streams of images, with the arguments of ``ignite.metrics.FID``.

    Every update brings a pair of batches, ``(train, test)`` or ``{"y_pred": ..., "y": ...}``, which need not be of the
    same number of images. Exact over processes.

    Parameters
    ----------
    num_features : int, optional
        Number of features; needed with `feature_extractor`.
    feature_extractor : torch.nn.Module, optional
        From a batch to (n, num_features). Without it the batches are features already; without both it is ignite's
        default, torchvision's Inception network.
    output_transform : callable, optional
        From the engine's output to the pair.
    device : str or torch.device, default "cpu"
        Where the network runs. Moments are kept in the host's memory.
    moments_precision : {"float32", "float64"}, default "float32"
        As `precision` of `fidfast.Moments`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable, in ignite's words.
    """

    _state_dict_all_req_keys = ("train", "test")

    def __init__(
        self,
        num_features: int | None = None,
        feature_extractor: torch.nn.Module | None = None,
        output_transform: Callable[[Any], Any] = _same,
        device: str | torch.device = "cpu",
        *,
        moments_precision: str = "float32",
    ) -> None:
        self._precision = moments_precision
        super().__init__(num_features, feature_extractor, output_transform, device)

    def reset(self) -> None:
        """Forget both streams."""
        name = getattr(self._feature_extractor, "name", None)
        self._sides = {side: Moments(self._num_features, self._precision, name) for side in ("train", "test")}

    def update(self, output: Sequence[torch.Tensor]) -> None:
        """Add a pair of batches.

        Raises
        ------
        TypeError, ValueError
            If the features of one of them are no (n, num_features) matrix of finite numbers. Both streams stay as they
            were.
        """
        batches = []
        for images in output:
            features = self._extract_features(images)
            batches.append(Moments(self._num_features, self._precision))
            batches[-1].update(features)
        train, test = batches
        self._sides["train"].merge(train)
        self._sides["test"].merge(test)

    def compute(self) -> float:
        """The distance of all that was seen, by all processes, since the last reset.

        Raises
        ------
        ignite.exceptions.NotComputableError
            If there are fewer than 2 images on a side.
        RuntimeError
            If another process has died.
        """
        whole = {side: moments.__copy__() for side, moments in self._sides.items()}
        for side, moments in whole.items():
            if idist.get_world_size() > 1:
                all_reduce(moments)
            if moments.num_samples < 2:
                raise NotComputableError(f"FID needs at least 2 {side} images, got {moments.num_samples}")
        return frechet_distance(whole["train"].stats(), whole["test"].stats())

    def _extract_features(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            features: torch.Tensor = self._feature_extractor(inputs.detach().to(self._device))
        self._check_feature_shapes(features)
        return features.cpu()

    def _state_dict_per_rank(self) -> OrderedDict[str, torch.Tensor]:
        return OrderedDict((side, packed(moments)) for side, moments in self._sides.items())

    def _load_state_dict_per_rank(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        ignite.metrics.metric.Serializable.load_state_dict(self, state_dict)  # raises where one is missing
        self._sides = {
            side: unpacked(state_dict[side], moments.dim, moments.precision, moments.extractor)
            for side, moments in self._sides.items()
        }


class FrechetDistance(ignite.metrics.Metric):
    """Fréchet distance of the images that an engine makes to a fixed reference.

    Every update brings a batch of images (of features, where there is no extractor), alone or first in a tuple, or as
    ``y_pred`` in a dictionary. Exact over processes.

    Parameters
    ----------
    extractor, reference, ddof, moments_precision
        As of `fidfast.torch.FrechetDistance`.
    output_transform : callable, optional
        From the engine's output to the batch.
    device : str or torch.device, default "cpu"
        Where the network runs.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If the extractor or the reference is not usable.
    """

    required_output_keys = ("y_pred",)

    def __init__(
        self,
        extractor: Any,
        reference: Any,
        output_transform: Callable[[Any], Any] = _same,
        device: str | torch.device = "cpu",
        *,
        ddof: int = 1,
        moments_precision: str = "float32",
    ) -> None:
        self._metric = metric.FrechetDistance(extractor, reference, ddof=ddof, moments_precision=moments_precision)
        self._metric.to(device)
        super().__init__(output_transform, device)

    def reset(self) -> None:
        """Forget what was seen; the reference stays."""
        self._metric.reset()

    def update(self, output: Any) -> None:
        """Add a batch.

        Raises
        ------
        TypeError, ValueError
            If the images or features do not fit.
        """
        batch = output[0] if isinstance(output, (list, tuple)) else output
        add = self._metric.update if self._metric.extractor is not None else self._metric.update_features
        add(batch.to(self._device))

    def compute(self) -> float:
        """The distance of all that was seen, by all processes, since the last reset.

        Raises
        ------
        ignite.exceptions.NotComputableError
            If fewer than 2 images were seen.
        RuntimeError
            If another process has died.
        """
        try:
            return self._metric.compute()
        except ValueError as error:  # of too few samples, the only one
            raise NotComputableError(f"FrechetDistance: {error}") from error

    def _state_dict_per_rank(self) -> OrderedDict[str, Any]:
        return OrderedDict(self._metric.get_extra_state())

    def _load_state_dict_per_rank(self, state_dict: Mapping[str, Any]) -> None:
        self._metric.set_extra_state(dict(state_dict))
