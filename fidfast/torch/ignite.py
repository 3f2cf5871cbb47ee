"""The Fréchet distance as metrics and a handler of ignite.

`FID` is a drop-in replacement for ``ignite.metrics.FID``. `FrechetDistance` compares with a fixed reference.
`FrechetDistanceHandler` measures a model's samples at intervals during training.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fidfast._arguments import (
    as_dense,
    optional,
    require_bool,
    require_callable,
    require_instance,
    require_integer,
    require_precision,
    require_sequence,
    require_text,
)
from fidfast._metrics.frechet import frechet_distance
from fidfast._stats import Moments
from fidfast.torch._extractors.arithmetic import full_float32
from fidfast.torch._extractors.networks import evaluating, name_of
from fidfast.torch._processes.reduction import all_reduce
from fidfast.torch._training.metric import FrechetDistance as TorchFrechetDistance
from fidfast.torch._training.packing import pack, unpack
from fidfast.torch._training.sampling import evaluation_mode, require_at_least

try:
    import ignite.distributed as idist
    import ignite.metrics
    from ignite.engine import Engine, Events
    from ignite.exceptions import NotComputableError
except ImportError as error:
    raise ImportError(f"fidfast.torch.ignite needs ignite: pip install pytorch-ignite ({error})") from error

__all__ = ["FID", "FrechetDistance", "FrechetDistanceHandler"]


def _identity(output: Any) -> Any:
    return output


class FID(ignite.metrics.FID):
    """Fréchet distance between two streams of images, with the arguments of ``ignite.metrics.FID``.

    Every update adds a pair of batches, ``(train, test)`` or ``{"y_pred": ..., "y": ...}``, whose sizes may differ. The
    result over several processes is exact.

    Parameters
    ----------
    num_features : int, optional
        Number of features; needed with `feature_extractor`.
    feature_extractor : torch.nn.Module, optional
        From a batch to (n, num_features). With `num_features` only, the batches are features; without either, the
        network is ignite's default, torchvision's Inception network.
    output_transform : callable, optional
        From the engine's output to the pair.
    device : str or torch.device, default "cpu"
        Device of the network. Moments are kept in host memory.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic of the moments, as in `fidfast.Moments`.
    sync : bool, default True
        Whether `compute` combines all processes. With ``sync=False`` one process can call it alone.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, with the messages of ignite.
    """

    _state_dict_all_req_keys = ("train", "test")

    def __init__(
        self,
        num_features: int | None = None,
        feature_extractor: torch.nn.Module | None = None,
        output_transform: Callable[[Any], Any] = _identity,
        device: str | torch.device = "cpu",
        *,
        precision: str = "float32",
        sync: bool = True,
    ) -> None:
        self._precision = require_precision(precision)
        self._sync = require_bool("sync", sync)
        optional(require_integer, "num_features", num_features)
        super().__init__(num_features, feature_extractor, output_transform, device)

    def reset(self) -> None:
        """Remove all samples of both streams."""
        network = self._feature_extractor
        name = None if isinstance(network, torch.nn.Identity) else name_of(network).full
        self._moments = {
            key: Moments(self._num_features, precision=self._precision, extractor=name) for key in ("train", "test")
        }

    def update(self, output: Sequence[torch.Tensor]) -> None:
        """Add a pair of batches.

        Raises
        ------
        TypeError, ValueError
            If the features of a batch are not an (n, num_features) matrix of finite numbers. Both streams stay
            unchanged.
        """
        batches = []
        for images in require_sequence("output", output, torch.Tensor):
            features = self._extract_features(as_dense(images, "output"))
            batches.append(Moments(self._num_features, precision=self._precision))
            batches[-1].update(features)
        if len(batches) != 2:
            raise ValueError(f"output must be a pair of batches, got {len(batches)}")
        train, test = batches
        self._moments["train"].merge(train)
        self._moments["test"].merge(test)

    def compute(self) -> float:
        """Distance of all images since the last reset, of all processes.

        Raises
        ------
        ignite.exceptions.NotComputableError
            If a stream has fewer than 2 images.
        RuntimeError
            If another process has died.
        """
        moments = {key: copy.copy(mine) for key, mine in self._moments.items()}
        for key, reduced in moments.items():
            if self._sync and idist.get_world_size() > 1:
                all_reduce(reduced)
            if reduced.num_samples < 2:
                raise NotComputableError(f"FID needs at least 2 {key} images, got {reduced.num_samples}")
        return frechet_distance(moments["train"].stats(), moments["test"].stats())

    def _extract_features(self, inputs: torch.Tensor) -> torch.Tensor:
        device = torch.device(self._device)
        with torch.no_grad(), full_float32(device=device), evaluating(self._feature_extractor):
            features: torch.Tensor = self._feature_extractor(inputs.detach().to(device))
        self._check_feature_shapes(features)
        return features.cpu()

    def _state_dict_per_rank(self) -> OrderedDict[str, torch.Tensor]:
        return OrderedDict((key, pack(moments)) for key, moments in self._moments.items())

    def _load_state_dict_per_rank(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        ignite.metrics.metric.Serializable.load_state_dict(self, state_dict)  # checks the keys
        self._moments = {
            key: unpack(state_dict[key], moments.dim, precision=moments.precision, extractor=moments.extractor)
            for key, moments in self._moments.items()
        }


class FrechetDistance(ignite.metrics.Metric):
    """Fréchet distance of the images in an engine's output to a fixed reference.

    Every update adds a batch of images (or of features if there is no extractor), alone, first in a tuple, or as
    ``y_pred`` in a dictionary. The result over several processes is exact.

    Parameters
    ----------
    extractor, reference, ddof, precision, sync
        As in `fidfast.torch.FrechetDistance`.
    output_transform : callable, optional
        From the engine's output to the batch.
    device : str or torch.device, default "cpu"
        Device of the network.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        If the extractor or the reference is invalid.
    """

    required_output_keys = ("y_pred",)

    def __init__(
        self,
        extractor: Any,
        reference: Any,
        output_transform: Callable[[Any], Any] = _identity,
        device: str | torch.device = "cpu",
        *,
        ddof: int = 1,
        precision: str = "float32",
        sync: bool = True,
    ) -> None:
        self._metric = TorchFrechetDistance(extractor, reference, ddof=ddof, precision=precision, sync=sync)
        self._metric.to(device)
        super().__init__(output_transform, device)

    def reset(self) -> None:
        """Remove all samples; the reference is kept."""
        self._metric.reset()

    def update(self, output: Any) -> None:
        """Add a batch.

        Raises
        ------
        TypeError, ValueError
            If the images or features are invalid.
        """
        batch = output[0] if isinstance(output, (list, tuple)) else output
        add = self._metric.update if self._metric.extractor is not None else self._metric.update_features
        batch = as_dense(batch, "output")
        add(batch.to(self._device) if isinstance(batch, torch.Tensor) else batch)

    def compute(self) -> float:
        """Distance of all samples since the last reset, of all processes.

        Raises
        ------
        ignite.exceptions.NotComputableError
            If there are fewer than 2 samples.
        RuntimeError
            If another process has died.
        """
        try:
            return self._metric.compute()
        except ValueError as error:  # too few samples
            raise NotComputableError(f"FrechetDistance: {error}") from error

    def _state_dict_per_rank(self) -> OrderedDict[str, Any]:
        return OrderedDict(moments=self._metric.packed_state())

    def _load_state_dict_per_rank(self, state_dict: Mapping[str, Any]) -> None:
        self._metric.set_packed_state(state_dict["moments"])


class FrechetDistanceHandler:
    """Measures the distance of a model's samples to a reference at intervals of its trainer's iterations.

    The value is stored in ``engine.state.metrics``, where ignite's loggers find it, and written to the engine's log.
    The model samples in evaluation mode and without gradients; then its modes and the states of torch's random number
    generators are restored. Every batch of samples has its own seed, the same at all measurements. The batches are
    distributed over all processes.

    Parameters
    ----------
    metric : fidfast.torch.FrechetDistance
        Extractor and reference. It is reset at every measurement.
    model : torch.nn.Module
        The model that samples.
    sample : callable
        ``sample(model, n)`` returns n images, (n, 3, height, width), uint8 or floats from 0 to 1 (as `metric` accepts).
    num_samples : int
        Number of generated images, over all processes.
    every : int
        Number of iterations between measurements.
    batch_size : int, default 64
        Number of images per call of `sample`; the last batch may be smaller.
    name : str, default "frechet_distance"
        Key of the value in ``engine.state.metrics``.
    seed : int, default 0
        Seed of torch's random numbers, as in `moments_of_samples`.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """

    def __init__(
        self,
        metric: TorchFrechetDistance,
        model: torch.nn.Module,
        sample: Callable[[Any, int], torch.Tensor],
        num_samples: int,
        *,
        every: int,
        batch_size: int = 64,
        name: str = "frechet_distance",
        seed: int = 0,
    ) -> None:
        if not isinstance(metric, TorchFrechetDistance):
            raise TypeError(f"metric must be a fidfast.torch.FrechetDistance, got {type(metric).__name__}")
        require_callable("sample", sample)
        require_instance("model", model, torch.nn.Module)
        require_integer("seed", seed)
        require_text("name", name)
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
        """Measure after every `every` iterations of this engine. Attach the handler before the loggers."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self)

    def __call__(self, engine: Engine) -> None:
        """Measure now. All processes must call it."""
        engine.state.metrics[self.name] = self.measure()
        engine.logger.info(f"{self.name} {engine.state.metrics[self.name]:.6g} after {engine.state.iteration}")

    def measure(self) -> float:
        """Distance of samples of the model in its current state. All processes must call it."""
        self.metric.reset()
        with evaluation_mode(self.model):
            self.metric.update_samples(
                lambda n: self.sample(self.model, n),
                self.num_samples,
                batch_size=self.batch_size,
                seed=self.seed,
            )
        value = self.metric.compute()
        self.metric.reset()
        return value
