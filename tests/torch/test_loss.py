"""The loss: its value equals `fid`, its gradient equals finite differences, and it trains generators."""

import numpy as np
import pytest
import reference
import torch
from losses import DIM, EPS, REFERENCES, batch_of, gradient_of, reference_rows, running_stats_of
from sklearn.datasets import load_digits

import fidfast
import fidfast.torch as ft
import fidfast.torch._training.loss

#: Numbers of rows of a batch: fewer than `DIM`, equal, one more, and many.
SIZES = (2, 5, 7, 8, 30)


# The value ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize("n", SIZES)
def test_value_equals_fid(rng, kind, n):
    fixed, rows = reference_rows(kind, rng), batch_of(n, rng)
    terms = fidfast.frechet_terms(rows, fixed)
    value = ft.frechet_loss(torch.from_numpy(rows), fixed)
    assert value.dtype == torch.float64
    # Each of the two values is within the bound on its rounding.
    assert value.item() == pytest.approx(terms.distance, rel=0, abs=2 * terms.rounding)


@pytest.mark.parametrize("n", SIZES)
def test_eigenvectors_of_large_problems(rng, monkeypatch, n):
    fixed, rows = reference_rows("full", rng), batch_of(n, rng)
    exact, slope = ft.frechet_loss(torch.from_numpy(rows), fixed), gradient_of(ft.FrechetLoss(fixed), rows)
    monkeypatch.setattr(fidfast.torch._training.loss, "_MAX_SVD_RANK", 0)
    value = ft.frechet_loss(torch.from_numpy(rows), fixed)
    # Each of at most DIM roots has an error of up to the root of the rounding of its square.
    assert value.item() == pytest.approx(exact.item(), rel=DIM * np.sqrt(4 * EPS))
    # The smallest root is 1e-3 of the largest here; its inverse has the error eps / 1e-6.
    torch.testing.assert_close(gradient_of(ft.FrechetLoss(fixed), rows), slope, rtol=0, atol=1e-8 * slope.abs().max())


def test_forms_of_reference(rng, tmp_path):
    fixed, rows = reference_rows("full", rng), torch.from_numpy(batch_of(5, rng))
    moments = fidfast.Moments(DIM)
    moments.update(fixed)
    moments.stats().save(tmp_path / "fixed.npz")
    values = [
        ft.frechet_loss(rows, form).item()
        for form in (fixed, torch.from_numpy(fixed), moments, moments.stats(), tmp_path / "fixed.npz")
    ]
    assert values == pytest.approx([values[0]] * 5, rel=1e-13)  # the file holds sigma exactly


# The gradient ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REFERENCES)
@pytest.mark.parametrize("n", SIZES)
def test_gradient_of_a_batch(rng, kind, n):
    fixed, rows = reference_rows(kind, rng), batch_of(n, rng)
    loss = ft.FrechetLoss(fixed)
    assert torch.autograd.gradcheck(loss, torch.from_numpy(rows).requires_grad_())
    mu1, sigma1 = reference.moments(fixed)
    slope = reference.differences(lambda x: reference.weighted_distance(x, np.ones(n), mu1, sigma1), rows)
    # Steps of 1e-5 have a truncation error of 1e-10 times the third derivative, and a rounding error of 1e-16 / 1e-5.
    np.testing.assert_allclose(gradient_of(loss, rows), slope, rtol=0, atol=1e-6 * np.abs(slope).max())


@pytest.mark.parametrize("n", [5, 30])
def test_gradient_equals_the_formula_with_the_transport_map(rng, n):
    fixed, rows = reference_rows("full", rng), batch_of(n, rng)
    stats1, stats2 = (fidfast.Moments.from_features(side).stats() for side in (fixed, rows))
    pull = np.eye(DIM) - fidfast.transport_map(stats2, stats1)
    slope = 2 / n * (stats2.mu - stats1.mu) + 2 / (n - 1) * (rows - stats2.mu) @ pull
    # The error of T is eps over the square of its smallest root, which is 1e-3 of the largest here.
    np.testing.assert_allclose(gradient_of(ft.FrechetLoss(fixed), rows), slope, rtol=0, atol=1e-9 * abs(slope).max())


def test_gradient_of_equal_rows(rng):
    """A subgradient where the distance is not differentiable: finite, and zero along null directions."""
    fixed, rows = reference_rows("full", rng), batch_of(6, rng)
    rows[[2, 5]] = rows[0]
    mu1, sigma1 = reference.moments(fixed)
    slope = reference.differences(
        lambda x: reference.weighted_distance(x, np.ones(6), mu1, sigma1), rows
    )  # |h| - |-h| is zero
    np.testing.assert_allclose(gradient_of(ft.FrechetLoss(fixed), rows), slope, rtol=0, atol=1e-6 * abs(slope).max())


def test_gradient_of_rows_orthogonal_to_the_reference(rng):
    fixed, rows = rng.standard_normal((50, DIM)), batch_of(6, rng)
    fixed[:, 3:], rows[:, :3] = 0, 0
    slope = 2 / 6 * (rows.mean(0) - fixed.mean(0)) + 2 / 5 * (rows - rows.mean(0))
    np.testing.assert_allclose(gradient_of(ft.FrechetLoss(fixed), rows), slope, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n", [6, 100])
def test_gradient_of_equal_inputs_is_zero(rng, n):
    rows = batch_of(n, rng)
    loss = ft.FrechetLoss(rows)
    # Roots that are rounding errors are eps times the largest, or, if both sides are matrices, the root of that.
    assert 0 <= loss(torch.from_numpy(rows)).item() <= 1e-12 * np.trace(np.cov(rows.T))
    assert gradient_of(loss, rows).abs().max() <= 1e-11 * np.abs(rows).max()


@pytest.mark.parametrize("kind", REFERENCES)
def test_gradient_step_decreases_the_loss(rng, kind):
    loss, rows = ft.FrechetLoss(reference_rows(kind, rng)), torch.from_numpy(batch_of(5, rng))
    slope, step = gradient_of(loss, rows), 1e-4
    fall = (loss(rows) - loss(rows - step * slope)).item() / (step * slope.square().sum().item())
    assert fall == pytest.approx(1, abs=100 * step)  # to first order


# Types, modes and state -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("running", [None, "long queue", "decay 0.8"])
def test_narrow_features(rng, dtype, running):
    fixed, running_stats = reference_rows("full", rng), None if running is None else running_stats_of(running)[0]
    rows = torch.from_numpy(batch_of(5, rng)).to(dtype)
    loss = ft.FrechetLoss(fixed, running_stats=running_stats).eval()
    if running_stats is not None:
        running_stats.push(torch.from_numpy(batch_of(9, rng)))
    assert loss(rows).dtype == torch.float32
    got, exact = gradient_of(loss, rows), gradient_of(loss, rows.double())
    assert got.dtype == dtype
    # Everything is computed in float64, so only the result is rounded.
    limits = torch.finfo(dtype)
    torch.testing.assert_close(got.double(), exact, rtol=limits.eps / 2, atol=limits.smallest_normal)
    # A scaled loss, as used with float16, does not overflow unless its gradient does.
    features = rows.clone().requires_grad_()
    (loss(features) * 64).backward()
    torch.testing.assert_close(features.grad.double(), 64 * exact, rtol=limits.eps / 2, atol=limits.smallest_normal)


def test_autocast_and_strides_change_nothing(rng):
    loss, rows = ft.FrechetLoss(reference_rows("full", rng)), batch_of(5, rng)
    slope = gradient_of(loss, rows)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gradient_of(loss, rows), slope)
    across = torch.from_numpy(rows).T.contiguous().T.requires_grad_()
    loss(across).backward()
    torch.testing.assert_close(across.grad, slope, rtol=1e-12, atol=1e-12)  # products in another order


def test_second_derivatives_are_refused(rng):
    features = torch.from_numpy(batch_of(5, rng)).requires_grad_()
    value = ft.frechet_loss(features, reference_rows("full", np.random.default_rng(1)))
    (slope,) = torch.autograd.grad(value, features, create_graph=True)
    assert torch.equal(slope, gradient_of(ft.FrechetLoss(reference_rows("full", np.random.default_rng(1))), features))
    with pytest.raises(RuntimeError, match="the Fréchet loss is differentiable once: second derivatives are not"):
        slope.square().sum().backward()


def test_without_gradient(rng):
    loss, rows = ft.FrechetLoss(reference_rows("full", rng)), torch.from_numpy(batch_of(5, rng))
    assert not loss(rows).requires_grad
    with torch.no_grad():
        assert not loss(rows.requires_grad_()).requires_grad
    with torch.inference_mode():
        queued = ft.FrechetLoss(reference_rows("full", rng), running_stats=running_stats_of("long queue")[0])
        queued(rows)
    assert queued.running_stats.num_samples == 5


# Errors ---------------------------------------------------------------------------------------------------------------


def test_invalid_features_and_references(rng):
    fixed = reference_rows("full", rng)
    loss, rows = ft.FrechetLoss(fixed), torch.from_numpy(batch_of(5, rng))
    with pytest.raises(TypeError, match=r"features must be a tensor \(n, dim\), got ndarray"):
        loss(rows.numpy())
    with pytest.raises(ValueError, match=r"features must be 2-D \(n, dim\), got shape \(7,\)"):
        loss(rows[0])
    with pytest.raises(TypeError, match="features must be float16, bfloat16, float32 or float64, got int64"):
        loss(rows.long())
    with pytest.raises(ValueError, match="features have 3 columns, but the reference has dim 7"):
        loss(rows[:, :3])
    with pytest.raises(ValueError, match=r"features must have at least 1 row, got shape \(0, 7\)"):
        loss(rows[:0])
    with pytest.raises(ValueError, match="features: a covariance needs at least 2 samples, got 1"):
        loss(rows[:1])
    with pytest.raises(ValueError, match=r"features are on meta, but the reference is on cpu: use \.to\(\)"):
        loss(rows.to("meta"))
    with pytest.raises(ValueError, match="features are on cpu, but running_stats is on meta"):
        ft.FrechetLoss(fixed, running_stats=ft.MovingMoments(DIM, 0.5).to("meta"))(rows)
    with pytest.raises(FileNotFoundError, match="no such file: "):
        ft.frechet_loss(rows, "gone.npz")
    with pytest.raises(ValueError, match="reference: a covariance needs at least 2 samples, got 1"):
        ft.frechet_loss(rows, fixed[:1])


# Training -------------------------------------------------------------------------------------------------------------


class Generator(torch.nn.Module):
    """From noise to images of digits, (n, 64)."""

    def __init__(self):
        super().__init__()
        self.noise = torch.Generator().manual_seed(1)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = torch.nn.Sequential(torch.nn.Linear(32, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64))

    def forward(self, n):
        return self.layers(torch.randn(n, 32, generator=self.noise))

    def train_on(self, loss, rate, n, steps):
        optimizer = torch.optim.Adam(self.parameters(), rate)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(self(n)).backward()
            optimizer.step()


def test_generator_learns():
    digits = np.random.default_rng(0).permutation(load_digits().data.astype(np.float32) / 16)
    train, held_out = digits[:1000], digits[1000:]
    generator = Generator()

    def distance():
        with torch.no_grad():
            return fidfast.fid(held_out, generator(4000))

    start, between_parts = distance(), fidfast.fid(held_out, train)
    generator.train_on(ft.FrechetLoss(train), 2e-3, n=16, steps=400)
    batches_only = distance()
    # Measured: from 13.1 to 0.67; 0.07 between the two parts of the data.
    assert between_parts < batches_only < start / 10
    # Running statistics reduce the bias of 16 samples in 64 dimensions. Measured: 0.31.
    loss = ft.FrechetLoss(train, running_stats=ft.MovingMoments(64, 0.9))
    generator.train_on(loss, 3e-4, n=16, steps=400)
    assert between_parts < distance() < batches_only / 1.5
