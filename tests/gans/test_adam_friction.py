"""Tests of Adam as a heavy ball: the derivations on their own, and the claims of the quick preset."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import expm

from benchmarks.gans import adam_friction, experiment, heavy_ball
from benchmarks.gans.adam_friction import QUICK
from benchmarks.gans.work import Work


@pytest.fixture(scope="module")
def result():
    return adam_friction.run(QUICK, Work())


@pytest.mark.parametrize("x", [-2.0, -0.1, 0.3, 4.0])
def test_gradient_is_the_derivative(x):
    assert heavy_ball.grad_f(x) == pytest.approx(heavy_ball.f(x + 1e-30j).imag / 1e-30, rel=1e-13, abs=1e-15)


def test_flow_on_a_quadratic_has_its_closed_form():
    r, t, start = 0.7, 6.0, np.array([1.0, -1.0])
    matrix = np.block([[np.zeros((2, 2)), np.eye(2)], [-r * np.diag(heavy_ball.HESSIAN), -r * np.eye(2)]])
    exact = expm(matrix * t) @ np.concatenate([start, np.zeros(2)])
    np.testing.assert_allclose(heavy_ball.flow(heavy_ball.grad_quadratic, start, r, r, 8.0)(t)[:4], exact, atol=1e-9)


def test_step_is_an_euler_step_of_the_flow():
    theta, m, a, r = np.array([0.3, -0.2]), np.array([0.5, 0.1]), 0.01, 0.7
    grad, v = heavy_ball.grad_quadratic(theta), -m
    new_theta, new_m = heavy_ball.step(theta, m, grad, a, r)
    np.testing.assert_allclose(new_theta, theta + a * v, rtol=1e-14)
    np.testing.assert_allclose(-new_m, v + a * (-r * v - r * grad), rtol=1e-14)
    new_theta, also_m = heavy_ball.step(theta, m, grad, a, r, adam=True)
    np.testing.assert_allclose(new_theta, theta + a * -new_m, rtol=1e-14)
    np.testing.assert_array_equal(also_m, new_m)


def test_change_of_the_energy_in_a_step_on_a_quadratic():
    a, r = 0.05, 0.7
    for seed in range(5):
        theta, m = np.random.default_rng(seed).standard_normal((2, 2))
        grad = heavy_ball.grad_quadratic(theta)
        new_theta, new_m = heavy_ball.step(theta, m, grad, a, r)
        change = (new_m @ new_m - m @ m) / (2 * r) + heavy_ball.quadratic(new_theta) - heavy_ball.quadratic(theta)
        rest = m - grad
        closed = -a * m @ m + a**2 / 2 * (m @ (heavy_ball.HESSIAN * m) + r * rest @ rest)
        assert change == pytest.approx(closed, rel=1e-11)


@pytest.mark.parametrize(("a", "h"), [(0.01, 28.0), (0.1, 9.9), (0.1, 10.1)])
def test_factor_of_a_step_has_its_closed_modulus(a, h):
    r = 0.5
    columns = [heavy_ball.step(theta, m, h * theta, a, r) for theta, m in ((1.0, 0.0), (0.0, 1.0))]
    modulus = np.abs(np.linalg.eigvals(np.array(columns).T))
    np.testing.assert_allclose(modulus**2, 1 - a * r * (1 - a * h), rtol=1e-12)
    assert (modulus.max() < 1) == (a * h < 1)


def test_stationary_deviation_has_the_limit_of_small_steps():
    # The corrections are a h and a r, of order 1e-5 here.
    a, r, h, noise = 1e-5, 0.5, 0.25, 3.0
    closed = math.sqrt(a / (2 * h)) * noise
    assert heavy_ball.stationary_deviation(a, r, h, noise) == pytest.approx(closed, rel=1e-4)


def test_torch_uses_the_new_first_moment():
    start, a, r = np.array([-2.0, 1.0]), 0.01, 0.5
    path, _ = heavy_ball.torch_adam(a, 1 - a * r, second=None, steps=1, correct=False, start=start.tolist())
    grad = heavy_ball.grad_two(start)
    np.testing.assert_allclose(path[0], heavy_ball.step(start, 0.0, grad, a, r, adam=True)[0], rtol=1e-14)
    assert np.abs(path[0] - heavy_ball.step(start, 0.0, grad, a, r)[0]).max() > 1e-5


@pytest.mark.parametrize("index", range(10))
def test_claims_hold(result, index):
    # The margins are in the sentences.
    sentence = adam_friction.claim(result)[index]
    assert sentence.holds, sentence.text


def test_more_halvings_come_closer_to_the_order(result):
    for name, values in adam_friction.orders(result).items():
        if "decaying" not in name:
            # The deviation from 1 halves with the step; three quarters leave room for terms of the second order.
            assert abs(values[-1] - 1) < 0.75 * abs(values[-2] - 1), name


def test_much_friction_keeps_the_sharp_minimum(result):
    assert result.path["ends"]["slowed"] == pytest.approx(result.landscape["x"][0], abs=1e-3)


def test_result_is_json_and_is_described(result):
    restored = adam_friction.Result(**json.loads(json.dumps(asdict(result), allow_nan=False)))
    assert asdict(restored) == asdict(result)
    assert "100 balls" in adam_friction.summary(restored)
    assert len(adam_friction.figures(restored)) == 8


def test_plot_is_a_small_image(result):
    stored = experiment.Stored("adam_friction", result, "quick", 1.0, {}, Path())
    assert experiment.plot_bytes(stored).startswith(b"\x89PNG")
