"""The Fréchet distance of a model's samples while Lightning trains it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch

from fidfast.torch._training.metric import FrechetDistance
from fidfast.torch._training.sampling import require_at_least, sampling, take_samples

__all__ = ["FrechetDistanceCallback"]


def _lightning() -> Any:
    """The package that is in use, else one that is installed: it has two names, with classes of their own."""
    errors = []
    for name in sorted(("lightning.pytorch", "pytorch_lightning"), key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            errors.append(str(error))
    raise ImportError(f"fidfast.torch.lightning needs Lightning: pip install lightning ({'; '.join(errors)})")


_package = _lightning()
_isolate_rng = importlib.import_module(f"{_package.__name__}.utilities.seed").isolate_rng
_Callback: Any = _package.Callback


class FrechetDistanceCallback(_Callback):
    """Measures and logs the distance of generated images to a reference, every so many steps or epochs.

    The model samples in evaluation mode, without gradients and in the trainer's precision, and has its modes back
    afterwards. The generators of random numbers are left as they were found: a run trains to the same weights with the
    callback and without. Every batch of samples has a seed of its own, which is the same at every measurement; so are
    the samples, but for what the model has learnt, and whatever the number of processes, which deal the batches out
    among themselves.

    The value is logged under `name`, where ``ModelCheckpoint(monitor=name)`` finds it, and goes to the loggers at every
    measurement, whatever ``log_every_n_steps``.

    Parameters
    ----------
    metric : FrechetDistance
        The extractor and the reference. It is reset at every measurement.
    sample : callable or str
        ``sample(module, n)`` returns n images, (n, 3, height, width), uint8 or floats from 0 to 1 (what `metric`
        takes); or the name of a method of the module, which is called with n.
    num_samples : int
        How many images are generated, by all processes together.
    every_n_steps, every_n_epochs : int, optional
        When; one of the two. Steps are the optimizers', as ``trainer.global_step`` counts them.
    batch_size : int, default 64
        How many images are asked for at once; the last batch has what is left.
    name : str, default "frechet_distance"
        What the value is logged as.
    seed : int, default 0
        Batch i is sampled after ``torch.manual_seed(seed + i)``. Generators other than torch's are not seeded.

    Attributes
    ----------
    value : float or None
        The distance as it was measured last, by this run or the one that it goes on from.

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable.
    """

    def __init__(
        self,
        metric: FrechetDistance,
        sample: Callable[[Any, int], torch.Tensor] | str,
        num_samples: int,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        batch_size: int = 64,
        name: str = "frechet_distance",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(metric, FrechetDistance):
            raise TypeError(f"metric must be a fidfast.torch.FrechetDistance, got {type(metric).__name__}")
        if not (callable(sample) or isinstance(sample, str)):
            raise TypeError(f"sample must be a callable or the name of a method, got {type(sample).__name__}")
        if (every_n_steps is None) == (every_n_epochs is None):
            raise ValueError(f"give one of every_n_steps and every_n_epochs, got {every_n_steps} and {every_n_epochs}")
        require_at_least(
            num_samples=(num_samples, 2),
            every_n_steps=(every_n_steps, 1),
            every_n_epochs=(every_n_epochs, 1),
            batch_size=(batch_size, 1),
        )
        self.metric = metric
        self.sample = sample
        self.num_samples = num_samples
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self.batch_size = batch_size
        self.name = name
        self.seed = seed
        self.value: float | None = None
        self._step = 0  # trainer.global_step, as it was seen last

    def measure(self, trainer: Any, pl_module: Any) -> float:
        """The distance of samples of the module as it is now. All processes have to call it."""
        self.metric.to(pl_module.device).reset()
        with sampling(pl_module), _isolate_rng():
            take_samples(
                self.metric,
                lambda n: self._images(trainer, pl_module, n),
                self.num_samples,
                batch_size=self.batch_size,
                seed=self.seed,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
            )
        value = self.metric.compute()
        self.metric.reset()
        return value

    def _images(self, trainer: Any, pl_module: Any, n: int) -> torch.Tensor:
        with trainer.precision_plugin.val_step_context():
            return getattr(pl_module, self.sample)(n) if isinstance(self.sample, str) else self.sample(pl_module, n)

    # Lightning's hooks ----------------------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if isinstance(self.sample, str) and not callable(getattr(pl_module, self.sample, None)):
            raise AttributeError(f"{type(pl_module).__name__} has no method {self.sample!r} to sample with")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        before, self._step = self._step, trainer.global_step
        # A step of several optimizers may pass over the multiple; an accumulated batch makes no step.
        if self.every_n_steps is None or before // self.every_n_steps == self._step // self.every_n_steps:
            return
        self.value = self.measure(trainer, pl_module)
        pl_module.log(self.name, self.value, on_step=True, on_epoch=False, logger=False, batch_size=1)
        # Lightning itself would hand it to the loggers only where log_every_n_steps has a multiple too. The step is
        # that of all else that Lightning logs, as in its own monitors.
        for logger in trainer.loggers:
            logger.log_metrics({self.name: self.value}, step=trainer.fit_loop.epoch_loop._batches_that_stepped)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.every_n_epochs is None or (trainer.current_epoch + 1) % self.every_n_epochs != 0:
            return
        self.value = self.measure(trainer, pl_module)
        # The same in every process; sync_dist says so to Lightning.
        pl_module.log(self.name, self.value, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    @property
    def state_key(self) -> str:
        return self._generate_state_key(name=self.name)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = state_dict["value"]
