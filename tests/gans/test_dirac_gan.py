"""The Dirac-GAN: closed forms against automatic differentiation, and the claims of the quick preset."""

import cmath
import math

import pytest
import torch
from torch.func import jacrev

from benchmarks.gans import dirac_gan, dirac_theory, experiment
from benchmarks.gans.dirac_methods import (
    BY_NAME,
    METHODS,
    TARGET,
    Jacobian,
    consensus,
    fields,
    gan,
    instance_noise,
    noisy_objective,
    r1,
    trajectories,
)
from benchmarks.gans.work import Work

CONVERGING = [method for method in METHODS if method.converges]
SMOOTH = [method for method in METHODS if method.jacobian is not None]
UPDATES = pytest.mark.parametrize("alternating", [False, True], ids=["simultaneous", "alternating"])


def by_name(methods):
    return pytest.mark.parametrize("method", methods, ids=[method.name for method in methods])


@pytest.fixture(scope="module")
def result():
    return dirac_gan.run(dirac_gan.QUICK, Work())


def test_claims_hold(result):
    # The margin of each sentence is derived, and stated in it.
    sentences = dirac_gan.claim(result)
    assert len(sentences) == 9
    assert [each.text for each in sentences if not each.holds] == []


def test_figures_and_summary_have_all_methods(result):
    rows = dirac_gan.figures(result)
    assert {each.mark for each in rows} == {"derived", "checked", "remembered"}
    assert all(any(each.quantity.startswith(method.name) for each in rows) for method in METHODS)
    moduli = [each for each in rows if each.quantity.startswith("Modulus")]
    assert [each.paper for each in moduli] == [each.ours for each in moduli] == ["0.9747", "0.9000", "0.9803", "0.9552"]
    limits = [each for each in rows if each.quantity.startswith("Limit")]
    assert [float(each.paper.split("=")[1]) for each in limits] == [
        pytest.approx(float(each.ours.split(";")[0]), abs=1e-4) for each in limits
    ]
    assert all(method.name in dirac_gan.summary(result) for method in CONVERGING)
    quoted = [each for each in rows if each.mark == "remembered"]
    converges = ["not computed / Dirac-GAN: does not", "not computed / Dirac-GAN: converges"]
    for each in quoted:
        expected = (
            converges[each.paper.endswith("yes")] if "DRAGAN" not in each.quantity else "not computed / not computed"
        )
        assert each.ours == expected


def test_non_saturating_gan_with_alternating_updates_approaches_the_equilibrium():
    method = next(each for each in METHODS if each.name == "Non-saturating GAN")
    h = torch.full((1,), 0.2, dtype=torch.float64)
    distance = trajectories(method, torch.ones(1, 2, dtype=torch.float64), h, 4000, alternating=True).norm(dim=2)[:, 0]
    for updates in (500, 1000, 2000, 4000):
        # The mean over two turns, and 5 %, as in the claim.
        closed = dirac_theory.non_saturating_radius(0.2, updates - dirac_gan.AVERAGED / 2, alternating=True)
        assert float(distance[updates - dirac_gan.AVERAGED : updates].mean()) == pytest.approx(closed, rel=0.05)


def test_stored_result_has_the_same_claims(result, tmp_path):
    stored = experiment.write(tmp_path, "dirac_gan", result, preset="quick", seconds=1.0)
    loaded = experiment.read(tmp_path, "dirac_gan", "quick")
    assert [each.holds for each in dirac_gan.claim(loaded.result)] == [True] * 9
    assert dirac_gan.summary(loaded.result) == dirac_gan.summary(result)
    assert stored.plot_path.stat().st_size <= experiment.MAX_PLOT


@by_name(SMOOTH)
def test_field_has_the_closed_jacobian(method):
    jacobian = jacrev(method.field)(torch.zeros(2, dtype=torch.float64))
    closed = method.jacobian
    computed = jacobian[0, 0], jacobian[1, 1], jacobian[0, 1] * jacobian[1, 0]
    # Numbers of order 1; the weights of the quadrature have rounding of a few units.
    assert [float(each) for each in computed] == pytest.approx([closed.a, closed.d, closed.bc], abs=1e-14)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 1.5])
def test_eigenvalues_of_instance_noise(sigma):
    s = sigma**2
    assert same(instance_noise(sigma).jacobian.eigenvalues, pair(-s / 4, s**2 / 16 - 1 / 4))
    # Real from s = 2.
    assert all(abs(z.imag) == 0 for z in instance_noise(sigma).jacobian.eigenvalues) == (s >= 2)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 1.7])
def test_eigenvalues_of_penalties(gamma):
    # With the square of f'(0) = 1/2, which is 1/4.
    assert same(r1(gamma).jacobian.eigenvalues, pair(-gamma / 2, gamma**2 / 4 - 1 / 4))
    assert same(consensus(gamma).jacobian.eigenvalues, pair(-gamma / 4, -1 / 4))


def pair(centre, square):
    return centre + cmath.sqrt(square), centre - cmath.sqrt(square)


def same(x, y, tolerance=1e-14):
    return max(abs(a - b) for a, b in zip(x, y, strict=True)) < tolerance


@pytest.mark.parametrize("n_g", [1, 3])
@pytest.mark.parametrize("n_d", [1, 2, 5])
@pytest.mark.parametrize("h", [0.2, 0.7])
def test_alternating_gan(n_g, n_d, h):
    method = gan(n_g, n_d)
    s = math.sqrt(n_g * n_d) * h / 2
    closed = pair(1 - s**2 / 2, (1 - s**2 / 2) ** 2 - 1)
    assert same(dirac_theory.update_eigenvalues(method, h, alternating=True), closed)
    computed = torch.linalg.eigvals(dirac_theory.update_jacobian(method, h, alternating=True))
    # s = 2 is not among the cases: both eigenvalues are simple.
    assert same(sorted(computed.tolist(), key=order), sorted(closed, key=order), 1e-12)
    assert (max(map(abs, closed)) < 1 + 1e-12) == (s <= 2)


def order(z):
    return z.real, z.imag


@UPDATES
@by_name(CONVERGING)
def test_step_limit_is_where_the_spectral_radius_is_one(method, alternating):
    limit = dirac_theory.step_limit(method, alternating=alternating)
    radius = [
        max(map(abs, dirac_theory.update_eigenvalues(method, factor * limit, alternating=alternating)))
        for factor in (0.05, 0.5, 0.99, 1.0, 1.01)
    ]
    assert max(radius[:3]) < 1 < radius[4]
    assert radius[3] == pytest.approx(1, abs=1e-12)


def test_step_limits_have_their_closed_forms():
    s, gamma = 0.49, 0.3
    limit = dirac_theory.step_limit
    assert limit(instance_noise(0.7), alternating=False) == pytest.approx(2 * s)
    assert limit(r1(gamma), alternating=False) == pytest.approx(4 * gamma)
    assert limit(consensus(gamma), alternating=False) == pytest.approx((gamma / 2) / (gamma**2 / 16 + 1 / 4))


def test_critical_penalty_has_the_smallest_modulus():
    moduli = {
        gamma: max(map(abs, dirac_theory.update_eigenvalues(r1(gamma), 0.2, alternating=False)))
        for gamma in (0.3, 0.6, 0.9, 1.0, 1.1, 1.5, 2.0)
    }
    assert min(moduli, key=moduli.get) == 1.0


def test_quadrature_agrees_with_an_average_over_samples():
    theta, psi, sigma, n = torch.tensor(0.8), torch.tensor(-1.1), 0.7, 200_000
    noise = sigma * torch.randn(2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = -torch.nn.functional.softplus(-psi * (theta + noise[0])) - torch.nn.functional.softplus(psi * noise[1])
    # Five standard errors.
    assert float(noisy_objective(sigma)(theta.double(), psi.double())) == pytest.approx(
        float(values.mean()), abs=5 * float(values.std()) / math.sqrt(n)
    )
    # 32 nodes are enough for abs(psi) <= 2: twice as many change nothing but rounding.
    two = torch.tensor([2.0, 2.0], dtype=torch.float64)
    assert float(noisy_objective(sigma)(*two)) == pytest.approx(float(noisy_objective(sigma, 64)(*two)), abs=1e-9)


def test_consensus_field_has_the_factor_one():
    states = torch.tensor([[1.0, 1.0], [-0.5, 2.0], [1.5, -0.3]], dtype=torch.float64)
    computed = fields(BY_NAME["Consensus, γ = 1"], states)
    closed = torch.stack([dirac_theory.consensus_field(state, 1.0) for state in states])
    half = torch.stack([dirac_theory.consensus_field(state, 0.5) for state in states])
    assert float((closed - computed).abs().max()) < 1e-14
    assert float((half - computed).abs().max()) > 0.05


def test_gradient_penalties_are_those_of_the_discriminator():
    psi = torch.tensor(0.7, dtype=torch.float64)
    for x in (0.0, 1.3):
        slope = torch.func.grad(lambda point: psi * point)(torch.tensor(x, dtype=torch.float64))
        with_penalty, without = r1(0.3).discriminator(psi, psi), gan().discriminator(psi, psi)
        assert float(with_penalty - without) == pytest.approx(0.3 / 2 * float(slope) ** 2)


@by_name([METHODS[0], METHODS[3]])
def test_fields_of_gan_and_wgan_are_orthogonal_to_the_state(method):
    states = 4 * torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 2
    assert float((fields(method, states) * states).sum(1).abs().max()) < 1e-14


def test_recorded_updates_equal_direct_ones():
    for method in METHODS:
        start = torch.tensor([0.9, -0.6], dtype=torch.float64)
        h = torch.tensor(0.2, dtype=torch.float64)
        path = trajectories(method, start[None], h[None], 3, alternating=True)
        for _ in range(3):
            start = method.update(start, h, alternating=True)
        torch.testing.assert_close(path[-1, 0], start, rtol=1e-14, atol=1e-15)


def test_clip_limits_the_start_and_every_update():
    method = next(each for each in METHODS if each.clip < math.inf)
    starts = torch.tensor([[1.0, 1.9], [-2.0, -1.5]], dtype=torch.float64)
    path = trajectories(method, starts, torch.full((2,), 0.2, dtype=torch.float64), 50, alternating=False)
    assert float(path[..., 1].abs().max()) == method.clip
    assert path[0, :, 0].tolist() == [1.0, -2.0]


def test_norm_penalty_pushes_away_from_zero():
    method = next(each for each in METHODS if each.jacobian is None)
    states = torch.tensor([[0.0, 1e-9], [0.0, -1e-9], [0.0, TARGET]], dtype=torch.float64)
    # gamma g0 = 0.7 on both sides of psi = 0, and nothing at the target, where theta is 0.
    assert fields(method, states)[:, 1].tolist() == pytest.approx([0.7, -0.7, 0.0], abs=1e-8)


def test_eigenvalues_of_a_double_root():
    assert Jacobian(0, -1, -1 / 4).eigenvalues == (-0.5, -0.5)
