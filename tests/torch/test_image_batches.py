"""Batches of images in all layouts and ranges, and measurements of one process alone."""

import warnings

import numpy as np
import pytest
import torch
from pooled import Pooled

import fidfast
import fidfast.torch as ft
from fidfast.torch._images.pixels import image_batch, pixels_of_floats

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import ignite.distributed
    from ignite.engine import Engine

    import fidfast.torch.ignite
    from fidfast.torch.torchmetrics import FrechetInceptionDistance

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (9, 3, 10, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def moments(images, method="update"):
    metric = ft.FrechetDistance(Pooled(), np.eye(5))
    getattr(metric, method)(images)
    return metric.moments


# Ranges -------------------------------------------------------------------------------------------------------------


def epsilon(dtype):
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("units", [1, 4])
def test_rounding_outside_0_to_1_is_clipped(dtype, units):
    tolerance = units * epsilon(dtype)
    images = torch.tensor([-tolerance, 0.0, 0.5, 1.0, 1.0 + tolerance], dtype=torch.float64).to(dtype)
    assert pixels_of_floats(images).tolist() == [0.0, 0.0, 127.5, 255.0, 255.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [-1, 1])
def test_values_further_out_are_printed_with_enough_digits(dtype, sign):
    """The message never says that values from 0 to 1 are not from 0 to 1."""
    outside = 1 + 8 * epsilon(dtype) if sign > 0 else -8 * epsilon(dtype)
    images = torch.tensor([0.0, outside, 1.0], dtype=dtype)
    with pytest.raises(ValueError, match=r"must be from 0 to 1, got values from .* to .*: ") as caught:
        pixels_of_floats(images)
    low, high = (float(number) for number in str(caught.value).split("from ")[2].split(":")[0].split(" to "))
    assert (low, high) == pytest.approx((float(images.min()), float(images.max())), rel=1e-8)
    assert (low < 0) == (sign < 0)
    assert (high > 1) == (sign > 0)


@pytest.mark.parametrize(
    ("low", "high", "advice"),
    [
        (-1, 1, r"if they are from -1 to 1, pass \(x \+ 1\) / 2"),
        (-0.9, 0.7, r"pass \(x \+ 1\) / 2"),
        (0, 255, "if they are from 0 to 255, pass x / 255, or uint8"),
        (-2, 3, "rescale them"),
        (np.nan, 1, "but they hold NaN or infinity"),
    ],
)
def test_advice_for_other_ranges(low, high, advice):
    floats = torch.full((2, 3, 8, 8), float(high))
    floats[:, 0, 0, 0] = low
    for call in (
        lambda: moments(floats),
        lambda: moments(floats.numpy()),
        lambda: ft.moments_of_samples(lambda n: floats[:n], 2, Pooled()),
        lambda: ft.moments_of_images(torch.utils.data.TensorDataset(floats), Pooled()),
    ):
        with pytest.raises(ValueError, match=advice):
            call()


def test_rounding_above_1_does_not_end_a_run(images):
    exact = images / 255
    exact[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    rounded = exact.clone()
    rounded[0, 0, 0, :2] = torch.tensor([-1e-8, 1 + 1.2e-7])
    assert moments(rounded) == moments(exact)
    assert moments(rounded.double().numpy()) == moments(exact)
    sampled = ft.moments_of_samples(lambda n: rounded[:n], 9, Pooled())
    assert sampled == ft.moments_of_samples(lambda n: exact[:n], 9, Pooled())


def test_torchmetrics_with_rounding_above_1(images):
    """There ``(images * 255).byte()`` would turn white into black."""

    class Network(torch.nn.Module):
        num_features = 3

        def forward(self, images):
            return images.float().mean(dim=(2, 3))

    metric = FrechetInceptionDistance(Network(), normalize=True)
    metric.used_custom_model = False  # as for the Inception network, whose images are converted to uint8
    white = torch.full((2, 3, 4, 4), 1 + 2**-7, dtype=torch.bfloat16)
    metric.update(white, real=True)
    np.testing.assert_array_equal(metric.real_moments.stats().mu, 255)
    with pytest.raises(ValueError, match=r"pass \(x \+ 1\) / 2"):
        metric.update(white - 1.5, real=True)
    assert metric.real_moments.num_samples == 2


# Arrays -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("method", ["update", "forward"])
def test_arrays_in_both_layouts(images, channels, dtype, method):
    array = images[:, :channels].numpy()
    array = array if dtype == np.uint8 else (array / 255).astype(dtype)
    expected = moments(torch.from_numpy(array))
    last = np.moveaxis(array, 1, 3)
    frozen = array.copy()
    frozen.flags.writeable = False
    for given in (array, last, np.ascontiguousarray(last), np.asfortranarray(array), array[::-1][::-1], frozen):
        assert moments(given, method) == expected


def test_layout_of_arrays_that_could_be_both():
    assert image_batch(np.zeros((2, 3, 5, 3))).shape == (2, 3, 5, 3)
    for shape in ((2, 5, 5, 4), (5, 5, 3), (2, 5, 5, 5)):
        with pytest.raises(ValueError, match=f"or channels last, got shape \\{str(shape)[:-1]}"):
            image_batch(np.zeros(shape))
    with pytest.raises(ValueError, match=r"height, width\), got shape \(2, 5, 5, 3\)"):
        image_batch(torch.zeros(2, 5, 5, 3))  # tensors have their channels first, as everywhere in torch
    with pytest.raises(TypeError, match=r"images must be a tensor .*, or an array, got list"):
        image_batch([1, 2])


def test_arrays_of_features_and_of_generators(images, rng):
    rows = rng.standard_normal((7, 5))
    metric = ft.FrechetDistance(None, np.eye(5))
    metric.update_features(rows)
    assert metric.compute() == fidfast.fid(rows, np.eye(5))
    array = np.moveaxis(images.numpy(), 1, 3)
    got = ft.moments_of_samples(lambda n: array[:n], 9, Pooled())
    assert got == ft.moments_of_samples(lambda n: images[:n], 9, Pooled())
    theirs = fidfast.torch.ignite.FrechetDistance(Pooled(), np.eye(5))
    theirs.update(array)
    assert theirs.compute() == pytest.approx(fidfast.fid(got, np.eye(5)), rel=1e-12)


# One process alone --------------------------------------------------------------------------------------------------


@pytest.fixture
def second_of_two_processes(monkeypatch):
    """A process whose peer takes no part: every collective is an error."""

    def collective(*_arguments, **_options):
        raise RuntimeError("a collective was called")

    for name, result in {"is_available": True, "is_initialized": True}.items():
        monkeypatch.setattr(torch.distributed, name, lambda result=result: result)
    for name, result in {"get_world_size": 2, "get_rank": 1}.items():
        monkeypatch.setattr(torch.distributed, name, lambda group=None, result=result: result)
    for name in ("all_reduce", "all_gather", "broadcast", "barrier", "get_backend"):
        monkeypatch.setattr(torch.distributed, name, collective)
    monkeypatch.setattr(ignite.distributed, "get_world_size", lambda: 2)


def fill(metric, images):
    metric.update(images)
    return metric


#: Measurements with and without the other process.
MEASUREMENTS = {
    "compute": lambda images, sync: fill(ft.FrechetDistance(Pooled(), np.eye(5)), images).compute(sync=sync),
    "constructor": lambda images, sync: fill(ft.FrechetDistance(Pooled(), np.eye(5), sync=sync), images).compute(),
    "estimate": lambda images, sync: str(
        fill(ft.FrechetDistance(Pooled(), np.eye(5), blocks=20, sync=sync), images.repeat(10, 1, 1, 1)).estimate()
    ),
    "fid_of_samples": lambda images, sync: ft.fid_of_samples(
        lambda n: images[:n], np.eye(5), Pooled(), num_samples=18, batch_size=9, sync=sync
    ),
    "moments_of_samples": lambda images, sync: (
        ft.moments_of_samples(lambda n: images[:n], 18, Pooled(), batch_size=9, sync=sync).stats().mu.tolist()
    ),
    "features_of_samples": lambda images, sync: ft.features_of_samples(
        lambda n: images[:n], 18, Pooled(), batch_size=9, sync=sync
    ).tolist(),
    "ignite.FID": lambda images, sync: ignite_distance(images, sync),
    "ignite.FrechetDistance": lambda images, sync: fill(
        fidfast.torch.ignite.FrechetDistance(Pooled(), np.eye(5), sync=sync), images
    ).compute(),
    "ignite.FrechetDistanceHandler": lambda images, sync: handled(images, sync),
    "torchmetrics": lambda images, sync: torchmetrics_distance(images, sync),
}


def ignite_distance(images, sync):
    metric = fidfast.torch.ignite.FID(5, Pooled(), sync=sync)
    metric.update((images.float(), images.float() / 2))
    return metric.compute()


def handled(images, sync):
    metric = ft.FrechetDistance(Pooled(), np.eye(5), sync=sync)
    handler = fidfast.torch.ignite.FrechetDistanceHandler(
        metric, Pooled(), lambda _, n: images[:n], 18, every=1, batch_size=9
    )
    handler.attach(engine := Engine(lambda *_: None))
    engine.run([0])
    return engine.state.metrics["frechet_distance"]


def torchmetrics_distance(images, sync):
    network = Pooled()
    network.num_features = 5
    metric = FrechetInceptionDistance(network, sync_on_compute=sync)
    metric.update(images.float(), real=True)
    metric.update(images.float() / 2, real=False)
    return metric.compute().item()


@pytest.mark.parametrize("measure", MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_one_process_measures_alone(measure, images, request):
    expected = measure(images, True)  # without a process group
    request.getfixturevalue("second_of_two_processes")
    assert measure(images, False) == expected
    if measure is not MEASUREMENTS["torchmetrics"]:
        with pytest.raises(RuntimeError, match="a collective was called"):
            measure(images, True)


@pytest.mark.usefixtures("second_of_two_processes")
def test_samples_of_one_process_alone(images):
    metric = ft.FrechetDistance(Pooled(), np.eye(5))
    metric.update_samples(lambda n: images[:n], 18, batch_size=9, sync=False)
    assert metric.moments.num_samples == 18
    with pytest.raises(RuntimeError, match="a collective was called"):  # which exchanges errors
        metric.update_samples(lambda n: images[:n], 18, batch_size=9)
