"""Features of torchmetrics (copies, checkpoints, wrappers, several processes) work for our class as for theirs."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import torch
from metric_classes import OURS, Rows, both, filled
from processes import two_processes

import fidfast
import fidfast.torch as ft

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import torchmetrics
    from torchmetrics.image.kid import KernelInceptionDistance
    from torchmetrics.wrappers import FeatureShare, Running


@pytest.fixture
def real(rng):
    return torch.from_numpy(rng.standard_normal((400, 24)))


@pytest.fixture
def fake(rng):
    return torch.from_numpy(rng.standard_normal((300, 24)) * 1.2 + 0.1)


@both
@pytest.mark.parametrize("reset_real_features", [True, False])
def test_reset(cls, real, fake, reset_real_features):
    metric = filled(cls(Rows(), reset_real_features=reset_real_features), real, fake)
    first = metric.compute()
    metric.reset()
    assert metric.fake_features_num_samples == 0
    assert metric.real_features_num_samples == (0 if reset_real_features else 400)
    if not reset_real_features:
        torch.testing.assert_close(metric.real_features_sum, real.float().double().sum(dim=0))
        metric.update(fake, real=False)
        assert metric.compute() == pytest.approx(first.item(), rel=1e-6)
    assert not metric.update_called or not reset_real_features


@both
def test_copies_are_independent(cls, real, fake):
    metric = filled(cls(Rows()), real, fake[:100])
    copies = [metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))]
    torch.save(metric, buffer := io.BytesIO())
    copies.append(torch.load(io.BytesIO(buffer.getvalue()), weights_only=False))
    before = metric.compute()
    for other in copies:
        other.update(fake[100:], real=False)
        assert metric.compute() == before
        assert other.compute() == pytest.approx(fidfast.fid(real.float(), fake.float()), rel=1e-6)


@both
def test_checkpoints(cls, real, fake):
    one, two = cls(Rows()), cls(Rows())
    assert list(one.state_dict()) == ["inception.weight"]
    for metric in (one, two):
        metric.persistent(True)
    filled(one, real, fake[:100])
    torch.save({"epoch": 1, **one.state_dict()}, buffer := io.BytesIO())
    loaded = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    assert loaded.pop("epoch") == 1
    two.load_state_dict(loaded)
    for metric in (one, two):
        metric.update(fake[100:], real=False)
    assert torch.equal(one.compute(), two.compute())


@pytest.mark.parametrize("n", [0, 1, 24, 25, 3000])  # empty, pending rows, rows in the scatter and pending rows
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_state_round_trip_is_exact(rng, n, dtype):
    one, two = (OURS(Rows()).set_dtype(dtype) for _ in range(2))
    one.update(torch.from_numpy(rng.standard_normal((n, 24))), real=True)
    if n > 25:
        one.update(torch.from_numpy(rng.standard_normal((7, 24))).double(), real=True)
    state = one.metric_state
    assert {value.dtype for value in state.values()} == {torch.float64}
    for name, value in state.items():
        setattr(two, name, value)
    assert two.real_moments == one.real_moments
    assert two.fake_moments == one.fake_moments


def test_state_keeps_the_rounding_bound(rng):
    """Of the products of 1,024 float32 rows with at least 512 columns."""
    one, two = (OURS(Rows(512)) for _ in range(2))
    one.update(torch.from_numpy(rng.standard_normal((1030, 512))).float(), real=True)
    two.real_state = one.real_state
    errors = [metric.real_moments.stats().product_errors for metric in (one, two)]
    assert errors[0].any()
    np.testing.assert_array_equal(*errors)


@both
def test_forward(cls, real, fake):
    metric = cls(Rows(), reset_real_features=False)
    metric.update(real, real=True)
    values = [metric(batch, real=False).item() for batch in fake.split(100)]
    for value, batch in zip(values, fake.split(100), strict=True):
        # Theirs counts the kept real images again in every call.
        assert value == pytest.approx(fidfast.fid(real.float(), batch.float()), rel=1e-6 if cls is OURS else 1e-2)
    assert metric.update_count == 4
    assert metric.fake_features_num_samples == 300
    torch.testing.assert_close(metric.fake_features_sum, fake.float().double().sum(dim=0))
    assert metric.real_features_num_samples == (400 if cls is OURS else 400 * 2**3)
    if cls is OURS:
        assert metric.compute() == pytest.approx(fidfast.fid(real.float(), fake.float()), rel=1e-6)


@both
def test_forward_needs_both_kinds(cls, real):
    metric = cls(Rows())
    with pytest.raises(RuntimeError, match="More than one sample is required"):
        metric(real, real=True)
    if cls is OURS:
        assert metric.real_moments.num_samples == 0


@both
def test_merging_metrics(cls, real, fake):
    one, two = filled(cls(Rows()), real[:100], fake[:200]), filled(cls(Rows()), real[100:], fake[200:])
    one.merge_state(two)
    one.merge_state(cls(Rows()).metric_state)
    expected = fidfast.fid(real.float(), fake.float())
    assert one.compute() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"Expected state variable .* to be present in incoming state"):
        one.merge_state({"real_features_num_samples": 3})


@both
def test_collections(cls, real, fake):
    collection = torchmetrics.MetricCollection({"a": cls(Rows()), "b": cls(Rows(), reset_real_features=False)})
    for _ in range(2):
        filled(collection, real, fake)
        values = collection.compute()
        assert values["a"] == values["b"] == pytest.approx(fidfast.fid(real.float(), fake.float()), rel=1e-6)
        assert torch.equal(collection.clone()["a"].fake_features_sum, collection["b"].fake_features_sum)
        collection.reset()
        collection["b"].reset_real_features = True
        collection.reset()


@both
def test_network_shared_with_other_metrics(cls, real, fake):
    class Counting(Rows):
        calls = 0

        def forward(self, rows):
            self.calls += 1
            return super().forward(rows)

    network = Counting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of KernelInceptionDistance
        shared = FeatureShare([cls(network), KernelInceptionDistance(network, subset_size=50, subsets=2)])
    filled(shared, real, fake, 200)
    assert network.calls == 4  # not 8
    assert shared.compute()["FrechetInceptionDistance"] == pytest.approx(fidfast.fid(real.float(), fake.float()), 1e-6)


@both
def test_running_windows(cls, real, fake):
    metric = Running(cls(Rows()), window=2)
    for batch in (fake[:50], real, fake):
        metric.update(batch, real=batch is real)
    assert metric.compute() == pytest.approx(fidfast.fid(real.float(), fake.float()), rel=1e-6)


@both
def test_arithmetic_and_devices(cls, real, fake):
    metric = filled(cls(Rows()), real, fake)
    twice = metric + metric
    assert twice.compute() == 2 * metric.compute()
    before = metric.compute()
    assert metric.float().half().double() is metric
    assert metric.to("cpu").compute() == before
    assert metric.compute().device == metric.device
    assert cls(Rows()).to("meta").device.type == "meta"
    assert len({metric, cls(Rows())}) == 2
    figure, _ = metric.plot()
    assert figure.axes


# Batch size and order -----------------------------------------------------------------------------------------------


def distances(dim, dtype):
    """`FrechetDistance` and our torchmetrics class as functions of features and batches."""

    def of_module(real, batches):
        metric = ft.FrechetDistance(None, real)
        for batch in batches:
            metric.update_features(batch)
        return metric.compute()

    def of_torchmetrics(real, batches):
        metric = OURS(Rows(dim)).set_dtype(dtype)
        for batch in (*real.split(77), *batches):
            metric.update(batch, real=batch._base is real)
        return metric.compute().item()

    return of_module, of_torchmetrics


@pytest.mark.parametrize("which", [0, 1], ids=["FrechetDistance", "torchmetrics"])
def test_result_does_not_depend_on_batch_size_and_order(rng, which):
    dim = 24
    real, fake = (torch.from_numpy(rng.standard_normal((1500, dim))) for _ in range(2))
    distance = distances(dim, torch.float64)[which]
    values = [distance(real, fake.split(size)) for size in (1500, 1024, 100, 7, 1)]
    values.append(distance(real, fake[torch.randperm(1500, generator=torch.Generator().manual_seed(1))].split(100)))
    # Sums of 1,500 products in different orders: eps sqrt(1500) = 1e-14 of a variance in each entry, dim times that in
    # the norm, divided by the smallest eigenvalue, above 0.5, relative to sigma; times the traces, 2 dim, in the
    # distance.
    assert np.ptp(values) < 1e-14 * dim / 0.5 * 2 * dim
    assert values[0] == pytest.approx(fidfast.fid(real, fake), rel=1e-10)


@pytest.mark.parametrize("which", [0, 1], ids=["FrechetDistance", "torchmetrics"])
def test_result_does_not_depend_on_batch_size_with_float32_products(rng, which):
    dim = 512
    real, fake = (torch.from_numpy(rng.standard_normal((1600, dim))).float() for _ in range(2))
    distance = distances(dim, torch.float32)[which]
    values = [distance(real, fake.split(size)) for size in (1600, 100)]
    values.append(distance(real, fake.flip(0).split(333)))
    # 3e-7 is documented for `precision` of Moments; the torchmetrics class also rounds its result to float32.
    assert np.ptp(values) < (3e-7 + 1.2e-7) * max(values)


# Several processes --------------------------------------------------------------------------------------------------

WORKER = """
import sys, datetime, numpy as np, torch, torch.distributed as dist
import fidfast.torch as ft
from torchmetrics.image.fid import FrechetInceptionDistance as Theirs
from fidfast.torch.torchmetrics import FrechetInceptionDistance as Ours

class Rows(torch.nn.Module):
    num_features = 24
    def forward(self, rows):
        return rows

dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=20))
rank, folder = dist.get_rank(), sys.argv[1]
with np.load(f"{folder}/rows.npz") as rows:
    real, fake, few = (torch.from_numpy(rows[key]) for key in ("real", "fake", "few"))

def gather(tensor, group=None):
    everyone = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyone, tensor, group=group)
    return everyone

def share(rows):
    return rows[:100] if rank == 0 else rows[100:]

values = {}
for name, cls, options in (("theirs", Theirs, {}), ("ours", Ours, {}), ("own gather", Ours, {"dist_sync_fn": gather})):
    metric = cls(Rows(), reset_real_features=False, **options)
    metric.update(share(real), real=True)
    for batch in share(fake).split(40):
        metric.update(batch, real=False)
    values[name] = metric.compute()
    mine = metric.real_features_num_samples
    assert mine == len(share(real))  # each process keeps its own rows
    metric.sync()
    assert metric.real_features_num_samples == len(real) and metric.fake_features_num_samples == len(fake)
    metric.unsync()
    assert metric.real_features_num_samples == mine
    metric.reset()
    metric.update(share(few), real=False)  # all in the first process
    values[name + " few"] = metric.compute()

local = Ours(Rows(), sync_on_compute=False)
local.update(share(real), real=True)
local.update(share(fake), real=False)
values["local"] = local.compute()
step = Ours(Rows(), reset_real_features=False, dist_sync_on_step=True)
step.update(share(real), real=True)
values["step"] = step(share(fake), real=False)
values["after step"] = step.compute()
fixed = ft.FrechetDistance(None, real)
fixed.update_features(share(fake))
values["module"] = fixed.compute()
np.savez(f"{folder}/{rank}.npz", **values)
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one(rng, tmp_path):
    real, fake = rng.standard_normal((400, 24)), rng.standard_normal((300, 24)) + 0.1
    few = fake[:15]
    np.savez(tmp_path / "rows.npz", real=real, fake=fake, few=few)
    assert two_processes(tmp_path, WORKER) == [0, 0]
    expected = fidfast.fid(real, fake)
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as got:
            for name in ("ours", "own gather", "module", "step", "after step"):
                # As in test_result_does_not_depend_on_batch_size_and_order.
                assert got[name] == pytest.approx(expected, abs=1e-14 * 24 / 0.5 * 2 * 24), name
            assert got["theirs"] == pytest.approx(expected, rel=1e-9)
            for name in ("ours few", "own gather few"):
                # The rows become a covariance of rank 14, with an error of 1e-9 in the root: see GaussianStats.
                assert got[name] == pytest.approx(fidfast.fid(real, few), abs=1e-9 * 2 * 24), name
            assert got["theirs few"] == pytest.approx(fidfast.fid(real, few), rel=1e-6)
            mine = slice(0, 100) if rank == 0 else slice(100, None)
            assert got["local"] == pytest.approx(fidfast.fid(real[mine], fake[mine]), rel=1e-10)
