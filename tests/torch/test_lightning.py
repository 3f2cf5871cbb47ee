"""The Lightning callback that measures a model's samples during training."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from metric_classes import OURS, Rows
from photographs import crops
from processes import two_processes

import fidfast
import fidfast.torch as ft
from fidfast.torch._training.sampling import seed_of_batch

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import Logger

from fidfast.torch.lightning import FrechetDistanceCallback


def pooled(images):
    return images.unflatten(2, (2, 4)).unflatten(4, (2, 4)).mean(dim=(3, 5)).flatten(1)


class Recorder(Logger):
    name, version = "recorder", 0

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_metrics(self, metrics, step=None):
        self.logged += [(step, metrics["frechet_distance"])] if "frechet_distance" in metrics else []

    def log_hyperparams(self, *_arguments, **_options):
        pass


class Generator(pl.LightningModule):
    """Learns to generate grey images of 8 x 8; with dropout, which differs between training and evaluation."""

    def __init__(self, learning_rate=0.1):
        super().__init__()
        self.learning_rate = learning_rate
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 192), torch.nn.Dropout(0.5), torch.nn.Sigmoid())
        self.frozen = torch.nn.BatchNorm1d(192).eval().requires_grad_(False)
        with torch.no_grad():
            self.layers[0].weight.normal_(generator=torch.Generator().manual_seed(1))
            self.layers[0].bias.zero_()

    def sample(self, n):
        assert not self.layers.training
        assert not torch.is_grad_enabled()
        return self.layers(torch.randn(n, 2, device=self.device)).view(n, 3, 8, 8)

    def training_step(self, batch, _):
        assert self.layers.training
        assert not self.frozen.training
        return (self.layers(torch.randn_like(batch)) - 0.5).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.learning_rate)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(12, 2), batch_size=2)  # 6 batches


def trainer(folder, *callbacks, **options):
    """A trainer with one process on the CPU and no output."""
    options = {"max_epochs": 2, "enable_checkpointing": False, "logger": False, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "GPU available but not used")
        return pl.Trainer(
            accelerator="cpu", default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False,
            callbacks=list(callbacks), **options,
        )  # fmt: skip


# Warnings of Lightning about its use of torch, workers, log_every_n_steps and frozen modules.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The '?train_dataloader'? does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings(r"ignore:Found 1 module\(s\) in eval mode at the start of training"),
]


@pytest.fixture
def metric():
    reference = np.stack(list(crops(1, [(8, 8)] * 60)))
    return ft.FrechetDistance(pooled, ft.stats_of_images(reference, pooled))


def expected_distance(metric, module, num_samples, batch_size, seed=0):
    module.eval()
    metric.reset()
    with torch.no_grad():
        for i, first in enumerate(range(0, num_samples, batch_size)):
            torch.manual_seed(seed_of_batch(seed, i))
            metric.update(module.sample(min(batch_size, num_samples - first)))
    return metric.compute()


@pytest.mark.parametrize("sample", ["sample", lambda module, n: module.sample(n)], ids=["method", "callable"])
def test_every_n_epochs(tmp_path, metric, sample):
    recorder, module = Recorder(), Generator()
    callback = FrechetDistanceCallback(metric, sample, 50, every_n_epochs=2, batch_size=16, seed=5)
    run = trainer(tmp_path, callback, logger=recorder, max_epochs=4)
    run.fit(module)
    assert [step for step, _ in recorder.logged] == [11, 23]  # Lightning's step numbers at the ends of epochs
    assert recorder.logged[-1][1] == pytest.approx(callback.value, rel=1e-6)  # Lightning converts it to float32
    assert run.callback_metrics["frechet_distance"] == pytest.approx(callback.value, rel=1e-6)
    assert callback.value == expected_distance(metric, module, 50, 16, seed=5)
    assert recorder.logged[0][1] != recorder.logged[1][1]


def test_every_n_steps_for_any_log_every_n_steps(tmp_path, metric):
    recorder = Recorder()
    callback = FrechetDistanceCallback(metric, "sample", 20, every_n_steps=4)
    run = trainer(tmp_path, callback, logger=recorder, log_every_n_steps=50)
    run.fit(Generator())
    assert [step for step, _ in recorder.logged] == [3, 7, 11]  # of steps 0 to 11
    assert recorder.logged[-1][1] == callback.value
    assert run.callback_metrics["frechet_distance"] == pytest.approx(callback.value, rel=1e-6)


def test_accumulated_batches(tmp_path, metric):
    recorder = Recorder()
    callback = FrechetDistanceCallback(metric, "sample", 20, every_n_steps=2)
    trainer(tmp_path, callback, logger=recorder, log_every_n_steps=50, accumulate_grad_batches=3).fit(Generator())
    assert len(recorder.logged) == 2  # 12 batches, 4 steps


def test_several_optimizers(tmp_path, metric):
    class Adversaries(Generator):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, index):
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(super().training_step(batch, index))
                optimizer.step()

        def configure_optimizers(self):
            return [super(Adversaries, self).configure_optimizers() for _ in range(2)]

    recorder = Recorder()
    callback = FrechetDistanceCallback(metric, "sample", 20, every_n_steps=5)
    trainer(tmp_path, callback, logger=recorder, log_every_n_steps=50).fit(Adversaries())
    assert [step for step, _ in recorder.logged] == [2, 4, 7, 9]  # after 6, 10, 16 and 20 of 24 steps


def test_callback_does_not_change_the_run(tmp_path, metric):
    modules = []
    for callbacks in ((), (FrechetDistanceCallback(metric, "sample", 20, every_n_steps=1),)):
        torch.manual_seed(3)
        modules.append(Generator())
        trainer(tmp_path, *callbacks).fit(modules[-1])
    for one, two in zip(*(module.state_dict().values() for module in modules), strict=True):
        assert torch.equal(one, two)
    # The modes are restored after an error too.
    failing = FrechetDistanceCallback(metric, lambda module, n: torch.full((n, 3, 8, 8), 2.0), 20, every_n_steps=1)
    module = Generator()
    with pytest.raises(ValueError, match="from 0 to 1, got values from 2 to 2"):
        trainer(tmp_path, failing).fit(module)
    assert module.layers.training
    assert not module.frozen.training


def test_checkpoints(tmp_path, metric):
    callback = FrechetDistanceCallback(metric, "sample", 20, every_n_epochs=1)
    best = ModelCheckpoint(tmp_path, monitor="frechet_distance", save_on_train_epoch_end=True, save_top_k=-1)
    measured = Recorder()
    run = trainer(tmp_path, callback, best, enable_checkpointing=True, max_epochs=3, logger=measured)
    run.fit(Generator())
    assert best.best_model_score == pytest.approx(min(value for _, value in measured.logged), rel=1e-6)
    # A continued run counts steps from the checkpoint, and has the value.
    recorder = Recorder()
    other = FrechetDistanceCallback(metric, "sample", 20, every_n_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning, about other callbacks in the checkpoint
        trainer(tmp_path, other, logger=recorder, log_every_n_steps=50, max_epochs=4).fit(
            Generator(), ckpt_path=tmp_path / "epoch=2-step=18.ckpt", weights_only=False
        )
    assert [step for step, _ in recorder.logged] == [19]  # of the steps from 18 to 24
    again = FrechetDistanceCallback(metric, "sample", 20, every_n_steps=5)
    again.load_state_dict(callback.state_dict())
    assert again.value == callback.value
    assert again.state_key != FrechetDistanceCallback(metric, "sample", 20, every_n_steps=5, name="other").state_key


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_sampling_uses_the_trainers_precision(tmp_path, metric, precision):
    callback = FrechetDistanceCallback(metric, "sample", 20, every_n_epochs=1)
    run = trainer(tmp_path, callback, precision=precision, max_epochs=1)
    module = Generator()
    run.fit(module)
    # The images have a relative error of 2^-8.
    assert callback.value == pytest.approx(expected_distance(metric, module.float(), 20, 64), rel=0.05)


def test_arguments(tmp_path, metric):
    make = FrechetDistanceCallback
    for arguments, error, message in (
        ((3, "sample", 20), TypeError, r"metric must be a fidfast.torch.FrechetDistance, got int"),
        ((metric, 3, 20), TypeError, r"sample must be a callable or the name of a method, got int"),
        ((metric, "sample", 1), ValueError, r"num_samples must be at least 2, got 1"),
    ):
        with pytest.raises(error, match=message):
            make(*arguments, every_n_steps=1)
    for options, message in (
        ({}, "pass one of every_n_steps and every_n_epochs, got None and None"),
        ({"every_n_steps": 1, "every_n_epochs": 2}, "pass one of every_n_steps and every_n_epochs, got 1 and 2"),
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, got 0"),
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1, got 0"),
        ({"every_n_steps": 1, "batch_size": 0}, "batch_size must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make(metric, "sample", 20, **options)
    with pytest.raises(AttributeError, match="Generator has no method 'draw' to sample with"):
        trainer(tmp_path, make(metric, "draw", 20, every_n_steps=1)).fit(Generator())
    with pytest.raises(ValueError, match="the generator must return 20 images as requested, got 3"):
        trainer(tmp_path, make(metric, lambda module, n: torch.zeros(3, 3, 8, 8), 20, every_n_steps=1)).fit(Generator())


def test_torchmetrics_class_in_a_module(tmp_path, rng):
    real, fake = (torch.from_numpy(rng.standard_normal((60, 24))).float() for _ in range(2))

    class Module(Generator):
        def __init__(self):
            super().__init__()
            self.fid = OURS(Rows(), reset_real_features=False)
            self.fid.update(real, real=True)

        def training_step(self, batch, index):
            self.fid.update(fake[10 * index : 10 * index + 10], real=False)
            self.log("fid", self.fid, on_step=False, on_epoch=True)
            return super().training_step(batch, index)

    run = trainer(tmp_path, max_epochs=2)
    module = Module()
    run.fit(module)
    assert run.callback_metrics["fid"] == pytest.approx(fidfast.fid(real, fake), rel=1e-6)
    assert module.fid.real_moments.num_samples == 60
    assert module.fid.fake_moments.num_samples == 0  # Lightning has reset it


# The two packages ---------------------------------------------------------------------------------------------------


def test_lightning_is_optional(monkeypatch):
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "fidfast.torch.lightning")
    with pytest.raises(ImportError, match=r"fidfast.torch.lightning needs Lightning: pip install lightning"):
        importlib.import_module("fidfast.torch.lightning")


OTHER_NAME = """
import sys, warnings
warnings.simplefilter("ignore")
import torch, pytorch_lightning as pl, fidfast.torch as ft

from fidfast.torch.lightning import FrechetDistanceCallback
assert issubclass(FrechetDistanceCallback, pl.Callback)
assert "lightning.pytorch" not in sys.modules

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 192)
    def training_step(self, batch, _):
        return self.layer(batch).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
    def sample(self, n):
        return self.layer(torch.randn(n, 2)).sigmoid().view(n, 3, 8, 8)

metric = ft.FrechetDistance(lambda images: images.mean(dim=(2, 3)), torch.rand(20, 3))
callback = FrechetDistanceCallback(metric, "sample", 20, every_n_epochs=1)
run = pl.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, callbacks=[callback],
                 enable_progress_bar=False, enable_model_summary=False)
run.fit(Module(), torch.utils.data.DataLoader(torch.zeros(4, 2)))
assert abs(run.callback_metrics["frechet_distance"].item() - callback.value) < 1e-6 * callback.value
"""


def test_pytorch_lightning(tmp_path):
    done = subprocess.run([sys.executable, "-c", OTHER_NAME], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# Several processes --------------------------------------------------------------------------------------------------

WORKER = """
import sys, warnings
warnings.simplefilter("ignore")
import lightning.pytorch as pl, numpy as np, torch, fidfast, fidfast.torch as ft
from fidfast.torch.lightning import FrechetDistanceCallback
sys.path += sys.argv[2:]
from test_lightning import Generator, pooled

metric = ft.FrechetDistance(pooled, f"{sys.argv[1]}/reference.npz")
callback = FrechetDistanceCallback(metric, "sample", 50, every_n_epochs=1, batch_size=16)
run = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, logger=False, enable_checkpointing=False,
                 callbacks=[callback], enable_progress_bar=False, enable_model_summary=False)
run.fit(Generator(learning_rate=0.0))
value = run.callback_metrics["frechet_distance"].item()
np.savez(f"{sys.argv[1]}/{run.global_rank}.npz", value=callback.value, logged=value, world=run.world_size)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, metric):
    metric.reference.save(tmp_path / "reference.npz")
    folder = Path(__file__).parent
    assert two_processes(tmp_path, WORKER, str(folder), str(folder.parent)) == [0, 0]
    expected = expected_distance(metric, Generator(), 50, 16)
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as got:
            assert got["world"] == 2
            # The same images; sums of 50 products in another order, and a condition number of about 1e3.
            assert got["value"] == pytest.approx(expected, rel=1e-10)
            assert got["logged"] == pytest.approx(expected, rel=1e-6)
