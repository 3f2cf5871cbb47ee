"""The metric of a fixed reference, in one process and in several."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import crops
from pooled import Pooled
from processes import two_processes

import fidfast
import fidfast.torch as ft


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(np.stack(list(crops(0, [(24, 24)] * 40)))).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def reference():
    return ft.stats_of_images(np.stack(list(crops(1, [(24, 24)] * 60))), Pooled())


def test_distance_equals_fid_of_images(images, reference):
    metric = ft.FrechetDistance(Pooled(), reference)
    for batch in images.split(7):
        metric(batch)
    expected = ft.fid_of_images(images.numpy(), reference, Pooled())
    assert metric.compute() == pytest.approx(expected, rel=1e-5)
    # The same images as floats from 0 to 1.
    other = ft.FrechetDistance(Pooled(), reference)
    other.update(images / 255)
    assert other.compute() == pytest.approx(expected, rel=1e-5)
    assert "num_samples=40, extractor='pooled/pil-bicubic-8'" in repr(metric)


@pytest.mark.parametrize("method", ft.RESIZES)
def test_batches_are_resized_like_single_images(images, reference, method):
    extractor = ft.as_extractor(Pooled(), resize=method)
    metric = ft.FrechetDistance(extractor, ft.stats_of_images(images.numpy(), extractor))
    metric.update(images)
    assert metric.compute() <= 1e-9 * np.trace(metric.reference.sigma)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_features(rng, tmp_path, dtype):
    rows, other = rng.standard_normal((300, 12)), rng.standard_normal((200, 12)) + 0.1
    features = torch.from_numpy(rows).to(dtype).requires_grad_()
    stats = fidfast.Moments(12)
    stats.update(other)
    stats.stats().save(tmp_path / "reference.npz")
    for source in (tmp_path / "reference.npz", stats, stats.stats(), other):
        metric = ft.FrechetDistance(None, source)
        for batch in features.split(33):
            metric.update_features(batch)
        assert metric.compute() == pytest.approx(fidfast.fid(other, features.detach().double().numpy()), rel=1e-12)
    metric.reset()
    assert metric.moments.num_samples == 0
    with pytest.raises(ValueError, match="a covariance needs at least 2 samples, got 0"):
        metric.compute()


def test_checkpoint_continues_with_the_same_digits(images, reference):
    one = ft.FrechetDistance(Pooled(), reference)
    one.update(images[:23])
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    assert set(one.state_dict()) == {"moments"}  # and not the network
    two = ft.FrechetDistance(Pooled(), reference)
    two.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for metric in (one, two):
        metric.update(images[23:])
    assert two.moments == one.moments
    assert two.compute() == one.compute()
    with pytest.raises(RuntimeError, match="the state has dim 5, but the reference has dim 4"):
        ft.FrechetDistance(None, np.eye(4)).load_state_dict(one.state_dict())


def normal(rng, n, shift=0.0):
    """Features (n, 6)."""
    return torch.from_numpy(rng.standard_normal((n, 6)) + shift)


def test_estimate_equals_that_of_the_features_in_the_same_blocks(rng):
    samples, other = normal(rng, 700, 0.1), normal(rng, 900)
    metric = ft.FrechetDistance(None, other, blocks=20)
    moments = fidfast.Moments(6, blocks=20)
    for batch in samples.split(33):
        metric.update_features(batch)
        moments.update(batch)
    assert metric.moments == moments
    assert "num_samples=700, extractor=None, blocks=20" in repr(metric)
    # The reference is exact, also if it is given as features.
    exact = fidfast.Moments.from_features(other).stats()
    assert metric.estimate() == fidfast.estimate(moments, exact)
    assert metric.estimate().num_samples == (700, None)
    assert metric.estimate().value == metric.compute()
    # And the interval contains the distance of infinitely many samples, for this seed: 6 shifts of 0.1 from the mean of
    # the reference, and the spread of its variances.
    truth = fidfast.frechet_distance(fidfast.GaussianStats(np.full(6, 0.1), np.eye(6)), exact)
    low, high = metric.estimate().interval(0.999)
    assert low < truth < high
    metric.reset()
    assert len(metric.moments.blocks) == 20
    with pytest.raises(ValueError, match="a covariance needs at least 2 samples, got 0"):
        metric.estimate()


def test_estimate_needs_blocks(rng):
    metric = ft.FrechetDistance(None, normal(rng, 900))
    metric.update_features(normal(rng, 700))
    with pytest.raises(ValueError, match=r"the metric has blocks=1: create it with FrechetDistance\(..., blocks=20\)"):
        metric.estimate()
    with pytest.raises(ValueError, match="blocks must be at least 1, got 0"):
        ft.FrechetDistance(None, normal(rng, 900), blocks=0)


def test_checkpoint_keeps_the_blocks(rng):
    other, first, second = normal(rng, 900), normal(rng, 333), normal(rng, 90)
    one = ft.FrechetDistance(None, other, blocks=20)
    one.update_features(first)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    two = ft.FrechetDistance(None, other, blocks=20)
    two.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for metric in (one, two):
        metric.update_features(second)
    assert two.moments == one.moments
    assert two.estimate() == one.estimate()
    message = "the state has 20 blocks, but the metric has 1: create it with blocks=20 to continue"
    single = ft.FrechetDistance(None, other)
    with pytest.raises(RuntimeError, match=message):
        single.load_state_dict(one.state_dict())
    assert single.moments.num_samples == 0


def test_metric_inside_another_module(images, reference):
    module = torch.nn.ModuleDict({"metric": ft.FrechetDistance(Pooled(), reference), "net": Pooled()})
    module.to("meta")
    assert next(module["metric"].extractor.model.parameters()).device.type == "meta"
    module = torch.nn.ModuleDict({"metric": ft.FrechetDistance(Pooled(), reference), "net": Pooled()})
    module.half().train()
    assert len(list(module["metric"].parameters())) == 0
    module["metric"].update(images)
    metric = ft.FrechetDistance(Pooled(), reference)
    metric.update(images)
    assert module["metric"].compute() == metric.compute()


def test_invalid_arguments(images, reference):
    metric = ft.FrechetDistance(Pooled(), reference)
    with pytest.raises(
        ValueError, match=r"images must be \(n, 3, height, width\) or \(n, 1, .*, got shape \(3, 24, 24\)"
    ):
        metric.update(images[0])
    with pytest.raises(ValueError, match="from 0 to 1, got values from"):
        metric.update(images.float())
    with pytest.raises(ValueError, match="features have 4 columns, but Moments was created with dim=5"):
        metric.update_features(torch.zeros(2, 4))
    metric.update(images[:0])
    assert metric.moments.num_samples == 0
    with pytest.raises(ValueError, match="this metric has no extractor: call update_features with features"):
        ft.FrechetDistance(None, reference).update(images)
    with pytest.raises(FileNotFoundError, match="no such file: "):
        ft.FrechetDistance(None, "gone.npz")


# Several processes --------------------------------------------------------------------------------------------------

WORKER = """
import sys, datetime, numpy as np, torch, torch.distributed as dist, fidfast, fidfast.torch as ft
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=20))
rank, folder = dist.get_rank(), sys.argv[1]
for rows in np.load(f"{folder}/rows.npy"):
    shares = {"unequal": rows[: 700] if rank == 0 else rows[700:], "none": rows if rank == 0 else rows[:0],
              "one": rows[:1] if rank == 0 else rows[1:], "nothing": rows[:0]}
    for case, share in shares.items():
        moments = fidfast.Moments(rows.shape[1])
        for batch in np.array_split(share, 5):
            moments.update(batch)
        mine = moments.num_samples
        ft.all_reduce(moments)
        metric = ft.FrechetDistance(None, rows)
        metric.update_features(torch.from_numpy(np.array(share)))
        if case != "nothing":
            stats = moments.stats()
            np.savez(f"{folder}/{case}-{abs(rows).max() > 1e5}-{rank}.npz", n=stats.num_samples, mu=stats.mu,
                     sigma=stats.sigma)
            assert metric.compute() < 1e-9 * np.trace(np.cov(rows, rowvar=False)), metric.compute()
        else:
            assert moments.num_samples == 0
        assert metric.moments.num_samples == mine  # each process keeps its own rows
narrow = fidfast.Moments(512)  # whose products are float32; the same in both processes
narrow.update(np.random.default_rng(0).standard_normal((1024, 512), dtype=np.float32))
errors = narrow.stats().product_errors * 1023
ft.all_reduce(narrow)
np.testing.assert_allclose(narrow.stats().product_errors * 2047, np.sqrt(2) * errors)
sys.path.insert(0, sys.argv[2])
import processes_that_differ
processes_that_differ.run()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Rows near the origin and far from it, and the folder with the results of two processes."""
    folder = tmp_path_factory.mktemp("processes")
    random = np.random.default_rng(20151205)
    rows = random.standard_normal((1500, 24)) @ random.standard_normal((24, 24))
    np.save(folder / "rows.npy", [rows, rows + 1e6])
    assert two_processes(folder, WORKER, str(Path(__file__).parent)) == [0, 0]
    return {False: rows, True: rows + 1e6}, folder


@pytest.mark.parametrize("case", ["unequal", "none", "one"])
@pytest.mark.parametrize("far", [False, True])
def test_every_process_gets_the_moments_of_all_rows(results, case, far):
    rows, folder = results
    expected = fidfast.Moments.from_features(rows[far]).stats()
    deviation = np.sqrt(np.diag(expected.sigma))
    correlations = expected.sigma / np.outer(deviation, deviation)
    for rank in range(2):
        with np.load(folder / f"{case}-{far}-{rank}.npz") as got:
            assert got["n"] == 1500
            # Differences from the common origin have an error of eps times the offset, 1e-10, which enters squared.
            # What remains are the sums of 1,500 products, eps sqrt(1500) each.
            np.testing.assert_allclose(got["mu"], expected.mu, rtol=1e-15, atol=1e-13)
            np.testing.assert_allclose(got["sigma"] / np.outer(deviation, deviation), correlations, rtol=0, atol=1e-13)


DYING = """
import os, pathlib, sys, time, torch, torch.distributed as dist
del os.environ["LOCAL_RANK"]  # with it, ignite creates a new group at its first call, which waits for its timeout
folder = pathlib.Path(sys.argv[1])
dist.init_process_group("gloo")
if dist.get_rank() == 1:  # dies after the other process has connected
    while not (folder / "connected").exists():
        time.sleep(0.05)
    sys.exit(7)
(folder / "connected").touch()
import fidfast, fidfast.torch as ft
from fidfast.torch.torchmetrics import FrechetInceptionDistance
from fidfast.torch.ignite import FID
rows = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
moments, metric, pair = fidfast.Moments(4), ft.FrechetDistance(None, rows), FID(num_features=4)
moments.update(rows)
metric.update_features(rows)
network = torch.nn.Identity()
network.num_features = 4
theirs = FrechetInceptionDistance(network)
theirs.update(rows, real=True)
theirs.update(rows, real=False)
pair.update((rows, rows))
before = moments.__copy__()
for call in (lambda: ft.all_reduce(moments), metric.compute, theirs.compute, pair.compute):
    try:
        call()
    except RuntimeError:
        continue
    sys.exit(3)
# This process's own rows are unchanged.
assert moments == before
assert metric.moments.num_samples == theirs.real_moments.num_samples == theirs.fake_moments.num_samples == 50
theirs.sync_on_compute = theirs._to_sync = False
assert theirs.compute() < 1e-9
"""


def test_dead_process_is_an_error_for_the_others(tmp_path):
    """In bounded time: the test waits two minutes at most, the timeout of the group is half an hour."""
    assert two_processes(tmp_path, DYING) == [0, 7]


def test_without_a_process_group(rng):
    with pytest.raises(RuntimeError, match="all_reduce needs a process group"):
        ft.all_reduce(fidfast.Moments(3))
