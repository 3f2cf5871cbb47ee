"""The loss far from the origin, in any unit, and of running statistics that several threads use."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from losses import DIM, RUNNING_STATS, batch_of, reference_rows, running_stats_of

import fidfast
import fidfast.torch as ft


def value_and_gradient(loss, rows):
    features = torch.as_tensor(rows).detach().clone().requires_grad_()
    value = loss(features)
    value.backward()
    return value.item(), features.grad.double().numpy()


def last_of_three(fixed, batches, running):
    """Value and gradient of the last of three batches, so that earlier ones are replaced or decay."""
    loss = ft.FrechetLoss(fixed, running_stats=None if running is None else running_stats_of(running)[0])
    for rows in batches:
        found = value_and_gradient(loss, rows)
    return found


def eighths(rows):
    """Multiples of 1/8: such rows have exact sums with 1e15, whose unit in the last place is 1/8."""
    return np.round(rows * 8) / 8


@pytest.mark.parametrize("kind", ["full", "few rows", "low rank"])
@pytest.mark.parametrize("running", [None, *RUNNING_STATS])
def test_an_offset_costs_no_digits(rng, kind, running):
    fixed = eighths(reference_rows(kind, rng))
    batches = [eighths(batch_of(6, rng)) for _ in range(3)]
    expected, slope = last_of_three(fixed, batches, running)
    for offset in (1e6, 1e12, 1e15):
        value, gradient = last_of_three(fixed + offset, [rows + offset for rows in batches], running)
        # The differences from the mean are the same numbers, up to a few roundings; the smallest root is above 1e-5.
        assert value == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(gradient, slope, rtol=0, atol=1e-9 * np.abs(slope).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_batches_far_from_the_origin(rng, dtype):
    """Of integers that the dtype holds; float32 rounds the value by 6e-8, and each dtype its gradient."""
    offset = 2.0**22 if dtype == torch.float32 else 96.0
    fixed, rows = np.round(2 * reference_rows("full", rng)), np.round(batch_of(6, rng)).clip(-30, 30)
    expected, slope = value_and_gradient(ft.FrechetLoss(fixed), rows)
    value, gradient = value_and_gradient(ft.FrechetLoss(fixed + offset), torch.from_numpy(rows + offset).to(dtype))
    assert value == pytest.approx(expected, rel=1e-7)
    np.testing.assert_allclose(gradient, slope, rtol=torch.finfo(dtype).eps, atol=1e-9)


def test_collapsed_batches(rng):
    fixed = np.tile(np.arange(DIM), (9, 1)).astype(float)
    rows = np.tile(np.arange(DIM) + 2.0, (4, 1))
    for offset in (0.0, 1e15):
        value, gradient = value_and_gradient(ft.FrechetLoss(fixed + offset), rows + offset)
        assert value == 4 * DIM
        np.testing.assert_array_equal(gradient, np.full((4, DIM), 2 / 4 * 2.0))
        other, gradient = value_and_gradient(ft.FrechetLoss(reference_rows("full", rng) + offset), rows + offset)
        assert np.isfinite(gradient).all()
        assert other > 0


@pytest.mark.parametrize("running", [None, "short queue", "long queue", "decay 0.8"])
def test_value_and_gradient_scale_with_the_unit(rng, running):
    """``d(s a, s b) = s^2 d(a, b)``, with a gradient that is s times larger; exact, since s is a power of 2."""
    fixed, batches = reference_rows("full", rng), [batch_of(6, rng) for _ in range(3)]
    expected, slope = last_of_three(fixed, batches, running)
    # The scatter of running statistics is in the squared unit.
    for exponent in (-500, -300, -41, -40, 1, 40, 43, 300, 490) if running is None else (-400, -41, 3, 41, 400):
        scaled = [np.ldexp(rows, exponent) for rows in batches]
        value, gradient = last_of_three(np.ldexp(fixed, exponent), scaled, running)
        assert value == np.ldexp(expected, 2 * exponent)
        np.testing.assert_array_equal(gradient, np.ldexp(slope, exponent))


def test_results_outside_of_the_range_are_errors(rng):
    fixed, rows = reference_rows("full", rng), batch_of(6, rng)
    for exponent, dtype, name in ((-600, None, "float64"), (600, None, "float64"), (1020, None, "float64"),
                                  (-90, np.float32, "float32"), (70, np.float32, "float32")):  # fmt: skip
        sides = [np.ldexp(side if dtype is None else side.astype(dtype), exponent) for side in (fixed, rows)]
        with pytest.raises(
            ValueError, match=rf"features of up to [0-9.]*e[-+0-9]* leaves the range of {name}: multiply"
        ):
            ft.frechet_loss(torch.from_numpy(sides[1]), sides[0])
    with pytest.raises(ValueError, match="leaves the range of float64"):
        ft.frechet_loss(torch.from_numpy(np.ldexp(rows, 1020)), fixed)


@pytest.mark.parametrize("running", ["long queue", "decay 0.8"])
def test_running_statistics_with_nan_are_not_loaded(rng, running):
    stats = running_stats_of(running)[0]
    for _ in range(3):
        stats.push(torch.from_numpy(batch_of(6, rng)))
    before = {name: buffer.clone() for name, buffer in stats.named_buffers()}
    for name in ("mean", "mean_low", "scatter"):
        state = copy.deepcopy(stats.state_dict())
        state[name].view(-1)[0] = float("nan")
        with pytest.raises(RuntimeError, match="counts: the statistics hold NaN or infinity"):
            stats.load_state_dict(state)
        assert all(torch.equal(buffer, before[name]) for name, buffer in stats.named_buffers())


@pytest.mark.parametrize("running", ["short queue", "long queue", "decay 1"])
def test_running_statistics_of_several_threads(rng, running):
    """All rows are equal within a batch, so that any torn statistics would show as a variance within a queue of one."""
    stats = running_stats_of(running)[0]
    loss = ft.FrechetLoss(reference_rows("full", rng), running_stats=stats)
    batches = [torch.from_numpy(batch_of(2, rng)) for _ in range(30)]
    start = threading.Barrier(3)

    def run(mine):
        start.wait()
        for rows in mine:
            loss(rows)
            copy.deepcopy(stats).num_samples  # noqa: B018
            pickle.dumps(stats)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(run, batches[i::3]) for i in range(3)]:
            done.result(timeout=60)
    if running == "decay 1":
        rows = torch.cat(batches)
        assert stats.num_samples == len(rows) == 60
        # Rounding of sums of 60 rows.
        torch.testing.assert_close(stats.mean, rows.mean(0), rtol=0, atol=1e-13)
        torch.testing.assert_close(
            stats.scatter, (rows - rows.mean(0)).T @ (rows - rows.mean(0)), rtol=1e-11, atol=1e-11
        )
    else:
        kept = stats.rows[: stats.num_samples].double()
        assert stats.num_samples == stats.size
        if running == "long queue":
            torch.testing.assert_close(stats.mean, kept.mean(0), rtol=0, atol=1e-13)


def test_reference_with_the_digits_of_its_rows(rng):
    """The mean of given rows, also of moments, has more digits than that of statistics."""
    fixed, rows = eighths(reference_rows("full", rng)), eighths(batch_of(6, rng))
    expected = ft.frechet_loss(torch.from_numpy(rows), fixed).item()
    moments = fidfast.Moments(DIM, blocks=3)
    moments.update(np.repeat(fixed, 30, axis=0) + 1e15)
    many = ft.frechet_loss(torch.from_numpy(rows), np.repeat(fixed, 30, axis=0)).item()
    assert ft.frechet_loss(torch.from_numpy(rows + 1e15), moments).item() == pytest.approx(many, rel=1e-12)
    assert ft.frechet_loss(torch.from_numpy(rows + 1e15), fixed + 1e15).item() == pytest.approx(expected, rel=1e-12)
