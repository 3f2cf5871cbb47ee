"""Bilinear and smooth games: closed forms against matrices, measured rates against closed forms."""

import numpy as np
import pytest

from benchmarks.gans import experiment, games
from benchmarks.gans.game_measurements import rate, rotated, singular_values, spectral_rate, steps_to
from benchmarks.gans.game_methods import METHODS, Game
from benchmarks.gans.work import Work


@pytest.fixture(scope="module")
def result():
    return games.run(games.QUICK, Work())


def test_the_claims_hold_except_the_remembered_bound_for_optimistic_steps(result):
    # The thresholds and where they come from are in the margins of the sentences.
    failed = [sentence.text for sentence in games.claim(result) if not sentence.holds]
    assert len(failed) == 1
    assert "number of optimistic steps" in failed[0]


def test_twice_the_remembered_bound_for_optimistic_steps_holds(result):
    # |z|^2 <= 1 - s^2 with s^2 = lambda_min / (8 lambda_max), so |z|^t <= exp(-t lambda_min / (16 lambda_max)); the
    # factor 4 before r / eps contains the condition number of the eigenvectors.
    rows = [each for each in result.steps if each["method"] == "optimistic"]
    assert all(games._most(each) <= 2 * each["bound"] for each in rows)


def test_measured_steps_are_those_of_the_exact_modulus(result):
    # The other methods are normal: the slowest mode contracts by its modulus in each step. Optimistic: the norms of the
    # eigenvectors add a constant factor below 4, and log 4 / log 1e6 = 0.10.
    for each in result.steps:
        slack = 0.1 * each["exact"] if each["method"] == "optimistic" else 0
        assert each["exact"] - 1e-6 <= each["worst"] <= each["exact"] + slack + 1


def test_the_result_and_its_plot_are_written_and_read_again(result, tmp_path):
    stored = experiment.write(tmp_path, "games", result, preset="quick", seconds=1.0)
    assert stored.plot_path.stat().st_size < experiment.MAX_PLOT
    again = experiment.read(tmp_path, "games", "quick")
    assert [each.holds for each in games.claim(again.result)] == [each.holds for each in games.claim(result)]


def test_texts_contain_the_numbers_of_the_result(result):
    assert all(figure.mark in {"derived", "checked", "remembered"} for figure in games.figures(result))
    steps = next(each["steps"] for each in result.slow_down if each["ratio"] == 10)
    assert f"{steps:,}" in games.summary(result)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("s", [0.1, 0.45, 0.55, 0.8, 1.2, 1.9])
def test_moduli_without_curvature_are_those_of_the_table(s, gamma):
    # The formulas per mode at sigma = 1; 1e-12 is rounding.
    root = np.sqrt(abs(1 - 4 * s**2))
    table = {
        "simultaneous": 1 + s**2,
        "implicit": 1 / (1 + s**2),
        "consensus": (1 - s * gamma) ** 2 + s**2,
        "predictive": (1 - s * gamma) ** 2 + s**2,
        "extragradient": 1 - s**2 + s**4,
        "optimistic": (1 + root) / 2 if s <= 0.5 else (1 + (2 * s + root) ** 2) / 4,
        "alternating": 1,
    }
    for name, expected in table.items():
        assert METHODS[name].squared_modulus(s, 1j, gamma) == pytest.approx(expected, rel=1e-12)


def iteration_matrix(name, eta, gamma, a, c):
    """Matrix of a step, of (x, x_before) for optimistic steps, written without `game_methods`."""
    n = len(c)
    K = np.block([[a * np.eye(n), c], [-c.T, a * np.eye(n)]])
    one, zero = np.eye(2 * n), np.zeros((2 * n, 2 * n))
    lower, upper = np.tril(K, -1), np.triu(K)
    lower[:n, :n] = upper[:n, :n] = 0
    first = np.block([[one[:n, :n] - eta * K[:n, :n], -eta * K[:n, n:]], [zero[n:, :n], one[n:, n:]]])
    second = np.block([[one[:n, :n], zero[:n, n:]], [-eta * K[n:, :n], one[n:, n:] - eta * K[n:, n:]]])
    return {
        "simultaneous": one - eta * K,
        "implicit": np.linalg.inv(one + eta * K),
        "consensus": one - eta * (K + gamma * K.T @ K),
        "predictive": one - eta * K @ (one - gamma * K),
        "extragradient": one - eta * K @ (one - eta * K),
        "optimistic": np.block([[one - 2 * eta * K, eta * K], [one, zero]]),
        "alternating": second @ first,
    }[name]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("a", [0.0, 0.3])
def test_moduli_are_the_eigenvalues_of_the_iteration_matrix(name, a):
    # 1e-7: double eigenvalues have the square root of the rounding.
    sigma = singular_values(5, 4)
    C, _, _ = rotated(sigma, seed=7)
    for eta in (0.1, 0.37, 0.62, 1.1):
        for gamma in (0.4, 1.3):
            radius = np.abs(np.linalg.eigvals(iteration_matrix(name, eta, gamma, a, C))).max()
            exact = np.sqrt(METHODS[name].squared_modulus(eta, a + 1j * sigma, gamma).max())
            found = np.exp(spectral_rate(METHODS[name], Game(C, a), np.array([eta]), gamma))
            assert radius == pytest.approx(exact, abs=1e-7)
            assert found == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("name", METHODS)
def test_a_trajectory_has_the_rate_of_the_closed_form(name):
    # Three modes with curvature, away from double eigenvalues. 1e-6 is the threshold of the claims.
    sigma = singular_values(3, 3)
    C, start, _ = rotated(sigma, seed=3)
    found = rate(METHODS[name], Game(C, 0.2), start, np.array([0.3]), 0.7, max_steps=16384, tolerance=1e-8)
    exact = np.log(METHODS[name].squared_modulus(0.3, 0.2 + 1j * sigma, 0.7).max()) / 2
    assert found == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("log_cosh", [False, True])
def test_the_field_is_the_gradient_and_the_jacobian_its_derivative(log_cosh):
    import torch

    C, start, _ = rotated(singular_values(3, 3), seed=1)
    game = Game(C, 0.7, log_cosh)

    def utility(x):
        theta, omega = x[:3], x[3:]
        p = (lambda t: torch.log(torch.cosh(t))) if log_cosh else (lambda t: t**2 / 2)
        return 0.7 * p(theta).sum() + theta @ torch.from_numpy(C) @ omega - 0.7 * p(omega).sum()

    def field(x):
        gradient = torch.func.grad(utility)(x)
        return torch.cat([gradient[:3], -gradient[3:]])

    x = torch.from_numpy(start)
    u = np.linspace(-1, 1, 6)
    jacobian = torch.func.jacrev(field)(x).numpy()
    # 1e-12 is rounding.
    np.testing.assert_allclose(game.field(start), field(x).numpy(), atol=1e-12)
    np.testing.assert_allclose(game.jacobian(start), jacobian, atol=1e-12)
    np.testing.assert_allclose(game.adjoint(start, u), jacobian.T @ u, atol=1e-12)


def test_an_implicit_step_solves_its_equation_on_a_nonlinear_game():
    C, start, _ = rotated(singular_values(3, 3), seed=2)
    game = Game(C, 0.5, log_cosh=True)
    new = METHODS["implicit"].step(2 * start, start, np.array([0.8]), 0.0, game)
    np.testing.assert_allclose(new + 0.8 * game.field(new), 2 * start, atol=1e-12)


def test_number_of_steps_counts_until_the_norm_stays_below():
    # One mode that contracts by 1/sqrt(2): 1e-3 is reached after log2(1e6) = 19.9 steps.
    count = steps_to(METHODS["implicit"], Game(np.eye(1)), np.array([[1.0, 0.0]]), 1.0, 0.0, accuracy=1e3)
    assert count.tolist() == [20]
