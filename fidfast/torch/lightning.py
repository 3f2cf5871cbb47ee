"""A Lightning callback that measures the Fréchet distance of a model's samples during training."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch

from fidfast._arguments import optional, require_integer, require_text
from fidfast.torch._training.metric import FrechetDistance
from fidfast.torch._training.sampling import evaluation_mode, require_at_least

__all__ = ["FrechetDistanceCallback"]


def _lightning() -> Any:
    """The imported Lightning package, else an installed one: the package has two names with different classes."""
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
    """Measures and logs the distance of generated images to a reference at intervals of steps or epochs.

    The model samples in evaluation mode, without gradients and in the trainer's precision; then the mode of every
    submodule is restored. The states of all random number generators are restored too, so that a run trains to the same
    weights with and without the callback. Every batch of samples has its own seed, the same at all measurements and for
    any number of processes, so samples change with the model only. The batches are distributed over the processes.

    The value is logged as `name`, so that ``ModelCheckpoint(monitor=name)`` finds it, and sent to the loggers at every
    measurement, regardless of ``log_every_n_steps``.

    Parameters
    ----------
    metric : FrechetDistance
        Extractor and reference. It is reset at every measurement.
    sample : callable or str
        ``sample(module, n)`` returns n images, (n, 3, height, width), uint8 or floats from 0 to 1 (as `metric`
        accepts); or the name of a method of the module that is called with n.
    num_samples : int
        Number of generated images, over all processes.
    every_n_steps, every_n_epochs : int, optional
        Interval between measurements; exactly one of the two. Steps are those of the optimizers, as
        ``trainer.global_step`` counts them.
    batch_size : int, default 64
        Number of images per call of `sample`; the last batch may be smaller.
    name : str, default "frechet_distance"
        Name of the logged value.
    seed : int, default 0
        Seed of torch's random numbers, as in `moments_of_samples`. Other random number generators are not seeded.

    Attributes
    ----------
    value : float or None
        The latest distance, of this run or of the run that it continues.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
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
            raise ValueError(f"pass one of every_n_steps and every_n_epochs, got {every_n_steps} and {every_n_epochs}")
        require_integer("seed", seed)
        require_text("name", name)
        require_at_least(num_samples=(num_samples, 2), batch_size=(batch_size, 1))
        optional(require_integer, "every_n_steps", every_n_steps, 1)
        optional(require_integer, "every_n_epochs", every_n_epochs, 1)
        self.metric = metric
        self.sample = sample
        self.num_samples = num_samples
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self.batch_size = batch_size
        self.name = name
        self.seed = seed
        self.value: float | None = None
        self._step = 0  # trainer.global_step at the previous batch

    def measure(self, trainer: Any, pl_module: Any) -> float:
        """Distance of samples of the module in its current state. All processes must call it."""
        self.metric.to(pl_module.device).reset()
        with evaluation_mode(pl_module), _isolate_rng():
            self.metric.update_samples(
                lambda n: self._images(trainer, pl_module, n),
                self.num_samples,
                batch_size=self.batch_size,
                seed=self.seed,
            )
        value = self.metric.compute()
        self.metric.reset()
        return value

    def _images(self, trainer: Any, pl_module: Any, n: int) -> torch.Tensor:
        with trainer.precision_plugin.val_step_context():
            return getattr(pl_module, self.sample)(n) if isinstance(self.sample, str) else self.sample(pl_module, n)

    # Hooks of Lightning ---------------------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if isinstance(self.sample, str) and not callable(getattr(pl_module, self.sample, None)):
            raise AttributeError(f"{type(pl_module).__name__} has no method {self.sample!r} to sample with")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        before, self._step = self._step, trainer.global_step
        # With several optimizers a batch makes several steps; with accumulated gradients it may make none.
        if self.every_n_steps is None or before // self.every_n_steps == self._step // self.every_n_steps:
            return
        self.value = self.measure(trainer, pl_module)
        pl_module.log(self.name, self.value, on_step=True, on_epoch=False, logger=False, batch_size=1)
        # self.log would send it to the loggers at multiples of log_every_n_steps only. The step is the one that
        # Lightning uses in its own monitors.
        for logger in trainer.loggers:
            logger.log_metrics({self.name: self.value}, step=trainer.fit_loop.epoch_loop._batches_that_stepped)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self.every_n_epochs is None or (trainer.current_epoch + 1) % self.every_n_epochs != 0:
            return
        self.value = self.measure(trainer, pl_module)
        # The value is equal in all processes; without sync_dist Lightning warns.
        pl_module.log(self.name, self.value, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    @property
    def state_key(self) -> str:
        return self._generate_state_key(name=self.name)

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = state_dict.get("value")
