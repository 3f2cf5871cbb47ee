"""The metric of a training run, in one process and in several."""

import io

import numpy as np
import pytest
import torch
from photographs import crops
from processes import torchrun, two_processes_without_torchrun

import fidfast
import fidfast.torch as ft


class Pooled(torch.nn.Module):
    """A network with weights of its own."""

    name = "pooled"
    input_size = 8

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 5, 3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(3))

    def forward(self, images):
        return self.layer(images).relu().mean(dim=(2, 3))


@pytest.fixture
def images():
    return torch.from_numpy(np.stack(list(crops(0, [(24, 24)] * 40)))).permute(0, 3, 1, 2)


@pytest.fixture
def reference():
    return ft.stats_of_images(np.stack(list(crops(1, [(24, 24)] * 60))), Pooled())


def test_images_give_the_distance_of_the_folder(images, reference):
    metric = ft.FrechetDistance(Pooled(), reference)
    for batch in images.split(7):
        metric(batch)
    expected = ft.fid_of_images(reference, images.numpy(), Pooled())
    assert metric.compute() == pytest.approx(expected, rel=1e-5)
    # Floats from 0 to 1 are the same images.
    other = ft.FrechetDistance(Pooled(), reference)
    other.update(images / 255)
    assert other.compute() == pytest.approx(expected, rel=1e-5)
    assert "num_samples=40, extractor='pooled/pil-bicubic-8'" in repr(metric)


@pytest.mark.parametrize("method", ft.RESIZES)
def test_batches_are_resized_as_single_images_are(images, reference, method):
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
    for reference in (tmp_path / "reference.npz", stats, stats.stats(), other):
        metric = ft.FrechetDistance(None, reference)
        for batch in features.split(33):
            metric.update_features(batch)
        assert metric.compute() == pytest.approx(fidfast.fid(other, features.detach().double().numpy()), rel=1e-12)
    metric.reset()
    assert metric.moments.num_samples == 0
    with pytest.raises(ValueError, match="a covariance needs at least 2 samples, got 0"):
        metric.compute()


def test_a_checkpoint_goes_on_to_the_same_digits(images, reference):
    one = ft.FrechetDistance(Pooled(), reference)
    one.update(images[:23])
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    assert set(one.state_dict()) == {"_extra_state"}  # and not the network
    two = ft.FrechetDistance(Pooled(), reference)
    two.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for metric in (one, two):
        metric.update(images[23:])
    assert two.moments == one.moments
    assert two.compute() == one.compute()
    with pytest.raises(ValueError, match="the state has dim 5, but the reference has dim 4"):
        ft.FrechetDistance(None, np.eye(4)).load_state_dict(one.state_dict())


def test_it_moves_and_trains_with_the_module_that_it_is_in(images, reference):
    whole = torch.nn.ModuleDict({"metric": ft.FrechetDistance(Pooled(), reference), "net": Pooled()})
    whole.to("meta")
    assert next(whole["metric"].extractor.model.parameters()).device.type == "meta"
    whole = torch.nn.ModuleDict({"metric": ft.FrechetDistance(Pooled(), reference), "net": Pooled()})
    whole.half().train()
    assert len(list(whole["metric"].parameters())) == 0
    whole["metric"].update(images)
    plain = ft.FrechetDistance(Pooled(), reference)
    plain.update(images)
    assert whole["metric"].compute() == plain.compute()


def test_what_does_not_fit(images, reference):
    metric = ft.FrechetDistance(Pooled(), reference)
    with pytest.raises(ValueError, match=r"images must be \(n, 3, height, width\), got shape \(3, 24, 24\)"):
        metric.update(images[0])
    with pytest.raises(ValueError, match="from 0 to 1, got values from"):
        metric.update(images.float())
    with pytest.raises(ValueError, match="features have 4 columns, but Moments was created with dim=5"):
        metric.update_features(torch.zeros(2, 4))
    metric.update(images[:0])
    assert metric.moments.num_samples == 0
    with pytest.raises(ValueError, match="this metric has no extractor; give it features with update_features"):
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
        assert metric.moments.num_samples == mine  # each process goes on with its own
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The rows near the origin and those far from it, and the folder of what two processes made of them."""
    folder = tmp_path_factory.mktemp("processes")
    random = np.random.default_rng(20151205)
    rows = random.standard_normal((1500, 24)) @ random.standard_normal((24, 24))
    np.save(folder / "rows.npy", [rows, rows + 1e6])
    done = torchrun(folder, WORKER)
    assert done.returncode == 0, done.stderr
    return {False: rows, True: rows + 1e6}, folder


@pytest.mark.parametrize("case", ["unequal", "none", "one"])
@pytest.mark.parametrize("far", [False, True])
def test_every_process_gets_the_moments_of_the_whole(two_processes, case, far):
    rows, folder = two_processes
    moments = fidfast.Moments(24)
    moments.update(rows[far])
    whole = moments.stats()
    deviation = np.sqrt(np.diag(whole.sigma))
    correlations = whole.sigma / np.outer(deviation, deviation)
    for rank in range(2):
        with np.load(folder / f"{case}-{far}-{rank}.npz") as got:
            assert got["n"] == 1500
            # Differences from the common origin are exact but for eps of the offset, 1e-10, which enters squared; what
            # is left are the sums of some 1,500 products, eps sqrt(1500) each.
            np.testing.assert_allclose(got["mu"], whole.mu, rtol=1e-15, atol=1e-13)
            np.testing.assert_allclose(got["sigma"] / np.outer(deviation, deviation), correlations, rtol=0, atol=1e-13)


DYING = """
import pathlib, sys, time, torch, torch.distributed as dist
folder, rank, meeting = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
if rank == 1:  # dies once the other has found it
    while not (folder / "found").exists():
        time.sleep(0.05)
    sys.exit(7)
(folder / "found").touch()
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
# What this process has seen itself is as it was.
assert moments == before
assert metric.moments.num_samples == theirs.real_moments.num_samples == theirs.fake_moments.num_samples == 50
theirs.sync_on_compute = theirs._to_sync = False
assert theirs.compute() < 1e-9
"""


def test_a_process_that_dies_is_an_error_for_the_others(tmp_path):
    """In bounded time: the test itself waits for no more than two minutes, while the group would for half an hour."""
    assert two_processes_without_torchrun(tmp_path, DYING) == [0, 7]


def test_without_a_process_group(rng):
    with pytest.raises(RuntimeError, match="all_reduce needs torch"):
        ft.all_reduce(fidfast.Moments(3))
