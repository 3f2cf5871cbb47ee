"""Moments, features and distances of the samples of a generator, in one process and in several."""

import doctest
import os
import sys

import numpy as np
import pooled
import pytest
import torch
from processes import two_processes

import fidfast
import fidfast.torch as ft
from fidfast.torch._training.sampling import seed_of_batch


class Pooled(pooled.Pooled):
    """Every feature varies."""

    activation = staticmethod(torch.nn.Identity())


class Generator(torch.nn.Module):
    """Random images; with dropout, and a frozen part that is always in evaluation mode."""

    def __init__(self, channels=3):
        super().__init__()
        self.channels = channels
        self.dropout = torch.nn.Dropout(0.5)
        self.frozen = torch.nn.Identity().eval()
        self.requested = []

    def forward(self, n):
        assert not self.dropout.training
        assert not torch.is_grad_enabled()
        self.requested.append(n)
        return self.dropout(torch.rand(n, self.channels, 12, 12) ** torch.rand(n, 1, 1, 1))

    def as_uint8(self, n):
        return (self(n) * 255).round().to(torch.uint8)


def assert_restored(generator):
    assert generator.training
    assert generator.dropout.training
    assert not generator.frozen.training


@pytest.fixture(scope="module")
def reference():
    return ft.moments_of_samples(Generator(), 90, Pooled(), seed=99).stats()


def test_equals_the_functions_of_images(reference):
    generator = Generator()
    batches = []

    def record(n):
        batches.append(generator.eval()(n))
        return batches[-1]

    moments = ft.moments_of_samples(record, 50, Pooled(), batch_size=16)
    assert generator.requested == [16, 16, 16, 2]
    features = ft.features_of_samples(Generator(), 50, Pooled(), batch_size=16)
    distance = ft.fid_of_samples(Generator(), reference, Pooled(), num_samples=50, batch_size=16)
    images = torch.utils.data.TensorDataset(torch.cat(batches))
    # Both resize the same pixels and run the same network, but with batches of other sizes: the sums over 27 products
    # and 36 positions are rounded in another order, 1e-6 of the features.
    expected = ft.features_of_images(images, Pooled())
    np.testing.assert_allclose(features, expected.features, rtol=1e-5, atol=1e-5)
    assert distance == pytest.approx(ft.fid_of_images(images, reference, Pooled()), rel=1e-4)
    assert moments.extractor == expected.extractor == "pooled/pil-bicubic-8"
    assert moments.num_samples == 50
    assert features.dtype == np.float32
    # The same features in the same batches.
    assert fidfast.frechet_distance(moments.stats(), reference) == distance
    again = fidfast.Moments(5, extractor=moments.extractor)
    for first in range(0, 50, 16):
        again.update(features[first : first + 16])
    assert again == moments


def test_uint8_and_bound_methods(reference):
    generator = Generator()
    one = ft.moments_of_samples(generator.as_uint8, 40, Pooled())
    assert_restored(generator)
    # Rounding to uint8 changes a pixel by at most 1 / 510, and the mean of the pixels of a feature by less.
    np.testing.assert_allclose(one.stats().mu, ft.moments_of_samples(generator, 40, Pooled()).stats().mu, atol=0.02)


def test_samples_depend_on_seed_and_batch_size_only():
    def moments(**options):
        return ft.moments_of_samples(Generator(), 50, Pooled(), **{"batch_size": 16, **options})

    torch.manual_seed(1)
    one = moments()
    torch.manual_seed(2)
    assert moments() == one
    assert moments(seed=1) != one
    assert moments(seed=-1) != one
    assert moments(batch_size=50) != one
    # The first batches are the same for any number of samples.
    few, many = (ft.features_of_samples(Generator(), n, Pooled(), batch_size=16) for n in (20, 50))
    np.testing.assert_array_equal(few[:16], many[:16])
    # No batch of one seed is a batch of another, and no two batches are equal.
    rows = np.concatenate([many, ft.features_of_samples(Generator(), 50, Pooled(), batch_size=16, seed=1)])
    assert len(np.unique(rows, axis=0)) == 100


def test_seeds_of_batches():
    seeds = {seed_of_batch(seed, batch) for seed in range(20) for batch in range(100)}
    assert len(seeds) == 2000
    assert max(seeds) < 2**32  # torch's generator on CPUs ignores higher bits
    assert seed_of_batch(np.int64(7), 3) == seed_of_batch(7, 3)


class BrokenError(Exception):
    pass


@pytest.mark.parametrize("make", [lambda _: torch.full((4, 3, 8, 8), 2.0), lambda _: torch.zeros(3, 3, 8, 8), None])
def test_random_state_and_modes_are_restored(make):
    def fail(_):
        torch.rand(3)
        raise BrokenError

    class Failing(Generator):
        def forward(self, n):
            images = super().forward(n)
            return images if len(self.requested) < 2 else (make or fail)(n)

    network, generator = Pooled(), Generator()
    before, cuda = torch.get_rng_state(), torch.cuda.is_initialized()
    ft.moments_of_samples(generator, 8, network, batch_size=4)
    assert_restored(generator)
    generator = Failing()
    with pytest.raises((BrokenError, ValueError)):
        ft.moments_of_samples(generator, 8, network, batch_size=4)
    assert_restored(generator)
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    if not torch.cuda.is_available():
        assert torch.cuda.is_initialized() == cuda


def test_grey_images_equal_repeated_ones(reference):
    grey = ft.moments_of_samples(Generator(channels=1), 30, Pooled())
    assert grey == ft.moments_of_samples(lambda n: Generator(1).eval()(n).expand(-1, 3, -1, -1), 30, Pooled())
    one, two = (ft.FrechetDistance(Pooled(), reference) for _ in range(2))
    images = torch.randint(0, 256, (30, 1, 12, 12), dtype=torch.uint8)
    one.update(images)
    two.update(images.expand(-1, 3, -1, -1))
    assert one.moments == two.moments


def test_metric_updates_with_the_same_samples(reference):
    metric = ft.FrechetDistance(Pooled(), reference)
    metric.update_samples(Generator(), 50, batch_size=16, seed=3)
    assert metric.moments == ft.moments_of_samples(Generator(), 50, Pooled(), batch_size=16, seed=3)
    metric.update_samples(Generator(), 1)
    assert metric.moments.num_samples == 51


def test_blocks_and_precision(reference):
    moments = ft.moments_of_samples(Generator(), 1000, Pooled(), blocks=20, precision="float64")
    assert [block.num_samples for block in moments.blocks] == [50] * 20
    assert moments.precision == "float64"
    result = fidfast.estimate(moments, reference)
    assert result.note is None
    features = ft.features_of_samples(Generator(), 1000, Pooled())
    rows = fidfast.estimate(features, reference)
    assert result.value == pytest.approx(rows.value, rel=1e-10)
    # With 19 degrees of freedom, the relative standard deviation of the error bar is 1 / sqrt(2 * 19) = 0.16; five
    # of them. The biases differ by their fourth-order part, which blocks estimate with as much noise.
    assert result.stderr == pytest.approx(rows.stderr, rel=0.8)


def test_invalid_arguments(rng, reference):
    def moments(generator=Generator(), num_samples=10, extractor=Pooled(), **options):  # noqa: B008
        ft.moments_of_samples(generator, num_samples, extractor, **options)

    for arguments, message in (
        ({"generator": 3}, r"generator must be callable: generator\(n\) returns n images, got int"),
        ({"num_samples": 1}, "num_samples must be at least 2, got 1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
        ({"precision": "half"}, "precision must be"),
        ({"generator": lambda n: torch.zeros(n + 1, 3, 8, 8)}, "generator must return 10 images as requested, got 11"),
        ({"generator": lambda n: [None] * n}, r"images of the generator must be a tensor \(n, 3, .*, got list"),
        (
            {"generator": lambda n: torch.zeros(n, 8, 8, 3)},
            r"images of the generator must be \(n, 3, .*\(10, 8, 8, 3\)",
        ),
        ({"generator": lambda n: torch.rand(n, 3, 8, 8) - 2}, "from 0 to 1, got values from -.* to -.*: rescale them"),
        ({"generator": lambda n: torch.zeros(n, 3, 8, 8).long()}, "images must be uint8, or floats from 0 to 1"),
        ({"extractor": lambda images: images.flatten(1) * np.nan}, "NaN or infinity"),
        ({"extractor": "inceptoin"}, "unknown extractor 'inceptoin'"),
        ({"seed": 0.5}, "seed must be an integer, got 0.5"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            moments(**arguments)
    with pytest.raises(ValueError, match="NaN or infinity"):
        ft.features_of_samples(Generator(), 10, lambda images: images.flatten(1) * np.nan)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        ft.features_of_samples(Generator(), 0, Pooled())
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        ft.fid_of_samples(Generator(), reference, Pooled(), num_samples=1)
    with pytest.raises(ValueError, match="features have 5 columns, but Moments was created with dim=4"):
        ft.fid_of_samples(Generator(), rng.standard_normal((20, 4)), Pooled())
    with pytest.raises(FileNotFoundError, match="no such file: "):
        ft.fid_of_samples(Generator(), "gone.npz", Pooled())
    metric = ft.FrechetDistance(None, reference)
    with pytest.raises(ValueError, match="this metric has no extractor: call update_features with features"):
        metric.update_samples(Generator(), 10)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        ft.FrechetDistance(Pooled(), reference).update_samples(Generator(), 0)


def test_progress_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    ft.moments_of_samples(Generator(), 50, Pooled(), batch_size=16, progress=True)
    assert "50/50" in capsys.readouterr().err
    ft.moments_of_samples(Generator(), 50, Pooled(), batch_size=16)
    assert capsys.readouterr().err == ""


def test_docstring_example():
    examples = doctest.DocTestFinder().find(ft.moments_of_samples, globs={})
    runner = doctest.DocTestRunner()
    runner.run(examples[0])
    assert runner.summarize().attempted > 0
    assert runner.summarize().failed == 0


# Several processes --------------------------------------------------------------------------------------------------

WORKER = """
import sys, datetime, numpy as np, torch, torch.distributed as dist, fidfast, fidfast.torch as ft
from test_samples import Generator, Pooled
torch.set_num_threads(1)
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
rank, folder = dist.get_rank(), sys.argv[1]
reference = np.load(f"{folder}/reference.npy")
for num_samples in (10, 50, 600):  # 1 batch, 4 and 38
    generator = Generator()
    options = {"batch_size": 16, "seed": 2}
    moments = ft.moments_of_samples(generator, num_samples, Pooled(), blocks=4, **options)
    # Both processes make the same number of calls.
    assert len(generator.requested) == -(-num_samples // 32), generator.requested
    metric = ft.FrechetDistance(Pooled(), reference, blocks=4)
    metric.update_samples(Generator(), num_samples, **options)
    assert metric.moments.num_samples == sum(generator.requested[: -1 if rank == 1 and num_samples == 10 else None])
    stats = moments.stats()
    np.savez(f"{folder}/{num_samples}-{rank}.npz", mu=stats.mu, sigma=stats.sigma, n=stats.num_samples,
        features=ft.features_of_samples(Generator(), num_samples, Pooled(), **options),
        distance=ft.fid_of_samples(Generator(), reference, Pooled(), num_samples=num_samples, **options),
        computed=metric.compute(), estimate=[metric.estimate().value, metric.estimate().stderr],
        expected=fidfast.estimate(moments, fidfast.Moments.from_features(reference).stats()).stderr)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    np.save(folder / "reference.npy", ft.features_of_samples(Generator(), 200, Pooled(), seed=99))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        assert two_processes(folder, WORKER) == [0, 0]
    return folder


@pytest.mark.parametrize("num_samples", [10, 50, 600])
def test_every_process_gets_the_result_of_one(results, num_samples):
    reference, options = np.load(results / "reference.npy"), {"batch_size": 16, "seed": 2}
    expected = ft.moments_of_samples(Generator(), num_samples, Pooled(), **options).stats()
    features = ft.features_of_samples(Generator(), num_samples, Pooled(), **options)
    distance = ft.fid_of_samples(Generator(), reference, Pooled(), num_samples=num_samples, **options)
    deviation = np.sqrt(np.diag(expected.sigma))
    loaded = []
    for rank in range(2):
        with np.load(results / f"{num_samples}-{rank}.npz") as file:
            loaded.append(dict(file))
    for got in loaded:
        assert got["n"] == num_samples
        np.testing.assert_array_equal(got["features"], features)
        # Sums of up to 600 products of float64, eps sqrt(600) each.
        np.testing.assert_allclose(got["mu"], expected.mu, rtol=1e-13, atol=1e-13 * deviation.max())
        np.testing.assert_allclose(got["sigma"], expected.sigma, rtol=0, atol=1e-13 * deviation.max() ** 2)
        # The distance is a sum of variances with other signs: its rounding is that of the variances.
        scale = 1e-12 * float(np.sum(deviation**2))
        for value in (got["distance"], got["computed"], got["estimate"][0]):
            assert value == pytest.approx(distance, rel=0, abs=scale)
        # The blocks of the metric are those of the function.
        np.testing.assert_allclose(got["estimate"][1], got["expected"], rtol=1e-9)
    for key, value in loaded[0].items():
        np.testing.assert_array_equal(value, loaded[1][key])
