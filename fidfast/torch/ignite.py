"""The Fréchet distance as metrics of ignite: attached to an engine, they fill ``engine.state.metrics``.

`FID` takes the place of ``ignite.metrics.FID``: one import line changes. `FrechetDistance` compares with a reference
that stays. `FrechetDistanceHandler` measures a model's samples every so many iterations of its trainer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fidfast._metrics.frechet import frechet_distance
from fidfast._stats.moments import Moments
from fidfast.torch._training.distributed import all_reduce
from fidfast.torch._training.metric import FrechetDistance as ReferenceMetric
from fidfast.torch._training.packing import packed, unpacked
from fidfast.torch._training.sampling import require_at_least, sampling, take_samples

try:
    import ignite.distributed as idist
    import ignite.metrics
    from ignite.engine import Engine, Events
    from ignite.exceptions import NotComputableError
except ImportError as error:
    raise ImportError(f"fidfast.torch.ignite needs ignite: pip install pytorch-ignite ({error})") from error

__all__ = ["FID", "FrechetDistance", "FrechetDistanceHandler"]


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
        self._metric = ReferenceMetric(extractor, reference, ddof=ddof, moments_precision=moments_precision)
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


class FrechetDistanceHandler:
    """Measures the distance of a model's samples to a reference every so many iterations of its trainer.

    The value goes to ``engine.state.metrics``, where ignite's loggers find it, and to the engine's own log. The model
    samples in evaluation mode and without gradients, and has its modes back afterwards, as torch's generators of random
    numbers have their state. Batch i of the samples comes after ``torch.manual_seed(seed + i)``, at every measurement,
    and processes deal the batches out among themselves.

    Parameters
    ----------
    metric : fidfast.torch.FrechetDistance
        The extractor and the reference. It is reset at every measurement.
    model : torch.nn.Module
        What samples.
    sample : callable
        ``sample(model, n)`` returns n images, (n, 3, height, width), uint8 or floats from 0 to 1 (what `metric` takes).
    num_samples : int
        How many images are generated, by all processes together.
    every : int
        Iterations from one measurement to the next.
    batch_size : int, default 64
        How many images are asked for at once; the last batch has what is left.
    name : str, default "frechet_distance"
        The value's place in ``engine.state.metrics``.
    seed : int, default 0

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable.
    """

    def __init__(
        self,
        metric: ReferenceMetric,
        model: torch.nn.Module,
        sample: Callable[[Any, int], torch.Tensor],
        num_samples: int,
        *,
        every: int,
        batch_size: int = 64,
        name: str = "frechet_distance",
        seed: int = 0,
    ) -> None:
        if not isinstance(metric, ReferenceMetric):
            raise TypeError(f"metric must be a fidfast.torch.FrechetDistance, got {type(metric).__name__}")
        if not callable(sample):
            raise TypeError(f"sample must be callable, got {type(sample).__name__}")
        require_at_least(num_samples=(num_samples, 2), every=(every, 1), batch_size=(batch_size, 1))
        self.metric = metric
        self.model = model
        self.sample = sample
        self.num_samples = num_samples
        self.every = every
        self.batch_size = batch_size
        self.name = name
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Measure after every `every` iterations of this engine; attach it before the loggers."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self)

    def __call__(self, engine: Engine) -> None:
        """Measure now. All processes have to call it."""
        engine.state.metrics[self.name] = self.measure()
        engine.logger.info(f"{self.name} {engine.state.metrics[self.name]:.6g} after {engine.state.iteration}")

    def measure(self) -> float:
        """The distance of samples of the model as it is now. All processes have to call it."""
        self.metric.reset()
        with sampling(self.model), torch.random.fork_rng():
            take_samples(
                self.metric,
                lambda n: self.sample(self.model, n),
                self.num_samples,
                batch_size=self.batch_size,
                seed=self.seed,
                rank=idist.get_rank(),
                world_size=idist.get_world_size(),
            )
        value = self.metric.compute()
        self.metric.reset()
        return value
