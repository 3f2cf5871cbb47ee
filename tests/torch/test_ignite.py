"""The metrics and the handler of ignite; FID is tested side by side with ignite's own."""

import copy
import importlib
import sys
import warnings

import numpy as np
import pytest
import torch
from metric_classes import Rows
from photographs import crops
from processes import two_processes

import fidfast
import fidfast.torch as ft

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import ignite.metrics
    from ignite.engine import Engine, Events
    from ignite.exceptions import NotComputableError

import fidfast.torch.ignite as ours

both = pytest.mark.parametrize("cls", [ignite.metrics.FID, ours.FID], ids=["theirs", "ours"])


@pytest.fixture
def train(rng):
    return torch.from_numpy(rng.standard_normal((300, 24))).float()


@pytest.fixture
def test(rng):
    return torch.from_numpy(rng.standard_normal((300, 24)) * 1.2 + 0.1).float()


def pairs(train, test, size=50):
    return list(zip(train.split(size), test.split(size), strict=True))


@both
def test_attached_to_an_engine(cls, train, test):
    metric = cls(num_features=24, feature_extractor=Rows(24))
    engine = Engine(lambda engine, pair: pair)
    metric.attach(engine, "fid")
    expected = fidfast.fid(train, test)
    for _ in range(2):  # every epoch starts from an empty state
        assert engine.run(pairs(train, test), max_epochs=2).metrics["fid"] == pytest.approx(expected, rel=1e-9)
    assert metric.is_attached(engine)
    metric.detach(engine)
    engine.state.metrics.clear()
    assert "fid" not in engine.run(pairs(train, test)).metrics


@both
def test_forms_of_output(cls, train, test):
    expected = fidfast.fid(train, test)
    metric = cls(num_features=24)  # features, without a network
    engine = Engine(lambda engine, pair: {"y_pred": pair[0], "y": pair[1], "loss": 3.0})
    metric.attach(engine, "fid")
    assert engine.run(pairs(train, test)).metrics["fid"] == pytest.approx(expected, rel=1e-9)
    metric = cls(num_features=24, output_transform=lambda output: output[1:])
    engine = Engine(lambda engine, pair: (0.5, *pair))
    metric.attach(engine, "fid")
    assert engine.run(pairs(train, test)).metrics["fid"] == pytest.approx(expected, rel=1e-9)


@both
def test_checkpoints(cls, train, test):
    one, two = (cls(num_features=24) for _ in range(2))
    for pair in pairs(train, test)[:3]:
        one.update(pair)
    two.load_state_dict(copy.deepcopy(one.state_dict()))  # theirs are not copies
    for pair in pairs(train, test)[3:]:
        one.update(pair)
        two.update(pair)
    assert two.compute() == one.compute() == pytest.approx(fidfast.fid(train, test), rel=1e-9)
    with pytest.raises(ValueError, match="Incorrect state_dict object"):
        two.load_state_dict({"fid": 3})


def test_checkpoint_keeps_the_rounding_bound(rng):
    """Of the products of 1,024 float32 rows with at least 512 columns."""
    one, two = (ours.FID(num_features=512) for _ in range(2))
    one.update((torch.from_numpy(rng.normal(size=(1030, 512)).astype(np.float32)),) * 2)
    two.load_state_dict(one.state_dict())
    errors = [metric._moments["train"].stats().product_errors for metric in (one, two)]
    assert errors[0].any()
    np.testing.assert_array_equal(*errors)


@both
def test_arguments(cls, train, test):
    with pytest.raises(ValueError, match="num_features must be provided, if feature_extractor is specified"):
        cls(feature_extractor=Rows(24))
    with pytest.raises(ValueError, match="num_features must be greater to zero, got: -1"):
        cls(num_features=-1)
    metric = cls(num_features=24)
    with pytest.raises(ValueError, match="should be 24, got: 23"):
        metric.update((train, test[:, 1:]))
    with pytest.raises(ValueError, match="must be a tensor of dim 2, got: 1"):
        metric.update((train[0], test))


def test_errors_and_batch_sizes_of_ours_only(train, test):
    metric = ours.FID(num_features=24)
    with pytest.raises(NotComputableError, match="FID needs at least 2 train images, got 0"):
        metric.compute()
    metric.update((train, test[:1]))
    bad = test.clone()
    bad[7, 3] = torch.inf
    with pytest.raises(ValueError, match="features hold NaN or infinity; the first such row is 7"):
        metric.update((train, bad))
    with pytest.raises(NotComputableError, match="FID needs at least 2 test images, got 1"):
        metric.compute()
    metric.update((train[:0].new_zeros(1, 24), test[1:]))
    assert metric.compute() == pytest.approx(fidfast.fid(torch.cat([train, torch.zeros(1, 24)]), test), rel=1e-12)


def test_fixed_reference(train, test):
    images = torch.from_numpy(np.stack(list(crops(0, [(24, 24)] * 40)))).permute(0, 3, 1, 2)

    def network(batch):
        return batch.mean(dim=(2, 3))

    reference = ft.stats_of_images(images[:20].numpy(), network)
    expected = ft.fid_of_images(images[20:].numpy(), reference, network)
    for output in (lambda batch: batch, lambda batch: (batch, 0.5), lambda batch: {"y_pred": batch, "loss": 0.5}):
        metric = ours.FrechetDistance(network, reference)
        engine = Engine(lambda engine, batch, output=output: output(batch))
        metric.attach(engine, "distance")
        assert engine.run(list(images[20:].split(7)), max_epochs=2).metrics["distance"] == pytest.approx(expected, 1e-6)
    # With features, during a training run.
    metric = ours.FrechetDistance(None, train)
    evaluator, trainer, values = Engine(lambda engine, batch: batch), Engine(lambda engine, batch: batch), []
    metric.attach(evaluator, "distance")

    @trainer.on(Events.ITERATION_COMPLETED(every=4))
    def measure():
        values.append(evaluator.run(test.split(60)).metrics["distance"])

    trainer.run(range(9))
    assert values == [pytest.approx(fidfast.fid(train, test), rel=1e-12)] * 2
    again = ours.FrechetDistance(None, train)
    again.load_state_dict(metric.state_dict())
    assert again.compute() == values[0]
    again.reset()
    with pytest.raises(NotComputableError, match="a covariance needs at least 2 samples, got 0"):
        again.compute()


# The handler --------------------------------------------------------------------------------------------------------


class Generator(torch.nn.Module):
    """Images with one parameter, their brightness; it has a submodule that stays in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(0.2))
        self.frozen = torch.nn.Identity().eval()
        self.modes = []

    def forward(self, n):
        self.modes.append((self.training, torch.is_grad_enabled()))
        return (torch.rand(n, 3, 8, 8) * 0.1 + self.level).clamp(0, 1)


class Pixels(torch.nn.Module):
    name = "pixels"

    def forward(self, images):
        return images.mean(dim=3).flatten(1)


def test_handler_measures_at_intervals(rng):
    reference = ft.stats_of_images((rng.random((60, 8, 8, 3)) * 255).astype(np.uint8), Pixels())
    generator = Generator()
    handler = ours.FrechetDistanceHandler(
        ft.FrechetDistance(Pixels(), reference), generator, lambda model, n: model(n), 50, every=3, batch_size=20
    )

    def step(engine, batch):
        with torch.no_grad():
            generator.level += 0.05
        return float(torch.rand(()))

    measured, noise = [], []
    trainer = Engine(step)
    handler.attach(trainer)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(every=3), lambda engine: measured.append(engine.state.metrics["frechet_distance"])
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: noise.append(engine.state.output))
    torch.manual_seed(5)
    trainer.run(range(6))
    assert len(measured) == 2
    assert measured[1] < measured[0]  # the brightness is closer to that of the reference
    assert set(generator.modes) == {(False, False)}
    assert generator.training
    assert not generator.frozen.training
    assert handler.measure() == measured[1]  # the same samples of the same model
    # The random numbers of the training equal those of a run without the handler.
    generator.level.data.fill_(0.2)
    torch.manual_seed(5)
    alone = []
    without = Engine(step)
    without.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: alone.append(engine.state.output))
    without.run(range(6))
    assert noise == alone


def test_invalid_arguments_of_the_handler(rng):
    metric = ft.FrechetDistance(Pixels(), rng.standard_normal((20, 24)))
    good = {"metric": metric, "model": Generator(), "sample": lambda model, n: model(n), "num_samples": 10, "every": 2}
    for change, message in (
        ({"metric": torch.nn.Identity()}, "metric must be a fidfast.torch.FrechetDistance, got Identity"),
        ({"sample": "sample"}, "sample must be callable, got str"),
        ({"num_samples": 1}, "num_samples must be at least 2, got 1"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            ours.FrechetDistanceHandler(**{**good, **change})
    short = ours.FrechetDistanceHandler(**{**good, "sample": lambda model, n: model(n - 1)})
    with pytest.raises(ValueError, match="the generator must return 10 images as requested, got 9"):
        short.measure()


def test_ignite_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "ignite.metrics", None)
    monkeypatch.delitem(sys.modules, "fidfast.torch.ignite")
    with pytest.raises(ImportError, match=r"fidfast.torch.ignite needs ignite: pip install pytorch-ignite"):
        importlib.import_module("fidfast.torch.ignite")


WORKER = """
import sys, numpy as np, torch, ignite.distributed as idist
from ignite.engine import Engine
from fidfast.torch.ignite import FID, FrechetDistance
idist.initialize("gloo")
rank, folder = idist.get_rank(), sys.argv[1]
with np.load(f"{folder}/rows.npz") as rows:
    train, test = (torch.from_numpy(rows[key]) for key in ("train", "test"))
share = slice(0, 90) if rank == 0 else slice(90, None)
metric, fixed = FID(num_features=24), FrechetDistance(None, train)
engine = Engine(lambda engine, pair: pair)
metric.attach(engine, "fid")
values = {"fid": engine.run(list(zip(train[share].split(40), test[share].split(40)))).metrics["fid"]}
fixed.update(test[share])
values["fixed"] = fixed.compute()
for one, name in ((metric, "fid"), (fixed, "fixed")):
    state = one.state_dict()  # of both processes
    one.reset()
    one.load_state_dict(state)
    values[name + " loaded"] = one.compute()
np.savez(f"{folder}/{rank}.npz", **values)
idist.finalize()
"""


@pytest.mark.slow
def test_two_processes_equal_one(rng, tmp_path):
    train, test = rng.standard_normal((300, 24)), rng.standard_normal((300, 24)) + 0.1
    np.savez(tmp_path / "rows.npz", train=train, test=test)
    assert two_processes(tmp_path, WORKER) == [0, 0]
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as got:
            assert sorted(got) == ["fid", "fid loaded", "fixed", "fixed loaded"]
            for name in got:
                # eps sqrt(300) in each entry, times 24 in the norm, over the smallest eigenvalue, times the traces.
                assert got[name] == pytest.approx(fidfast.fid(train, test), abs=1e-14 * 24 / 0.4 * 2 * 24), name
