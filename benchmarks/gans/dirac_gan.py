"""Convergence of GAN training on the Dirac-GAN.

Mescheder, Geiger & Nowozin study the simplest adversarial game: the data are a point mass at 0, the generator is a
point mass at theta, and the discriminator is D(x) = psi x. The equilibrium is (0, 0). A training method is a vector
field v(theta, psi); it converges at a linear rate near the equilibrium if the eigenvalues of its update's Jacobian are
inside the unit circle. `dirac_methods` defines ten methods, and `dirac_theory` derives the closed forms. Each method is
run with simultaneous and with alternating updates. The experiment computes

* the trajectory of every method from (1, 1), and its vector field: the paper's picture;
* the Jacobian of every update at the equilibrium by automatic differentiation in float64, and its eigenvalues beside
  the closed forms. WGAN-GP has no Jacobian: the gradient of its penalty, ``gamma (abs(psi) - g0) sign(psi)``, jumps at
  psi = 0;
* the rate at which trajectories contract or expand near the equilibrium, with step sizes below and above the limit;
* which methods converge: the distance to the equilibrium must fall below 1 % of its start, and must be smaller after
  all updates than after half of them. Starts are (1, 1), random states in [-1, 1]^2 ("near"), and the same doubled
  ("far"). The eigenvalues decide about convergence near the equilibrium only;
* theta^2 + psi^2 along the flow, which the GAN keeps.

Sources. Read in the paper's repository: the settings of the picture (its notebook). Derived: the eigenvalues and which
methods converge. Checked numerically before: instance noise, consensus optimization, alternating updates. Remembered,
and quoted as such: the paper's table of convergence for other data distributions. Two published formulas are not used:
equation 12 of arXiv 2501.05441 as printed lacks the square of f'(0), and the notebook's gradient of the consensus
penalty has the factor 1/2 where automatic differentiation gives 1.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.gans import dirac_theory
from benchmarks.gans.dirac_methods import BY_NAME, METHODS, fields, trajectories
from benchmarks.gans.dirac_plot import plot
from benchmarks.gans.experiment import Figure, Sentence
from benchmarks.gans.work import Part, Work

__all__ = ["CLAIM", "FULL", "PAPER", "QUICK", "Result", "Settings", "claim", "figures", "plot", "run", "summary"]

CLAIM = "Instance noise, zero-centred penalties and consensus converge linearly on the Dirac-GAN; other methods do not."
PAPER = "Mescheder, Geiger & Nowozin 2018, arXiv 1801.04406"

#: Relative distance to the equilibrium below which a trajectory counts as converged.
THRESHOLD = 0.01

#: Updates over which the final distance is averaged, about two turns.
AVERAGED = 100

#: Largest modulus at h = 0.2 with simultaneous updates, and how it is known.
MODULI = {
    "R1/R2, γ = 0.3": (0.9747, "derived"),
    "R1/R2, γ = 1 (critical)": (0.9, "derived"),
    "Instance noise, σ = 0.7": (0.9803, "checked"),
    "Consensus, γ = 1": (0.9552, "checked"),
}

#: Step sizes below which simultaneous updates contract: -2 Re(lambda) / abs(lambda)^2.
LIMITS = {
    "R1/R2, γ = 0.3": "4 γ = 1.2",
    "R1/R2, γ = 1 (critical)": "4 γ = 4",
    "Instance noise, σ = 0.7": "2 σ² = 0.98",
    "Consensus, γ = 1": "(γ/2) / (γ²/16 + 1/4) = 1.6",
}

#: The paper's table: training method, convergence for absolutely continuous data, and in general; names of our methods
#: up to the comma.
REMEMBERED = (
    ("unregularized GAN", "yes", "no", "GAN"),
    ("WGAN", "no", "no", "WGAN"),
    ("WGAN-GP", "no", "no", "WGAN-GP"),
    ("DRAGAN", "yes", "no", ""),
    ("instance noise", "yes", "yes", "Instance noise"),
    ("consensus optimization", "yes", "yes", "Consensus"),
    ("zero-centred gradient penalties", "yes", "yes", "R1/R2"),
)


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Parameters
    ----------
    seeds : int
        Number of random starts near the equilibrium, and of those far from it, in addition to (1, 1).
    steps : int
        Updates after which convergence is decided.
    shown_steps : int
        Updates in the picture.
    h : float
        Step size.
    factors : tuple of float
        Step sizes of the rates, relative to the limit.
    growth : float
        Rates are measured until a trajectory has changed by this power of e.
    time : float
        Duration of the continuous flow.
    """

    seeds: int
    steps: int = 500
    shown_steps: int = 500
    h: float = 0.2
    factors: tuple[float, ...] = (0.98, 0.99, 1.01, 1.02)
    growth: float = 2.0
    time: float = 30.0


QUICK = Settings(seeds=20)
FULL = Settings(seeds=200, steps=2000, growth=6.0, time=300.0)


@dataclass(frozen=True)
class Result:
    """Result of a run: one entry in `runs` for each method and kind of update."""

    settings: dict[str, Any]
    runs: list[dict[str, Any]]
    #: Vectors of each method on the 10 x 10 grid over [-2, 2]^2.
    fields: dict[str, list[list[float]]]
    #: Difference of the WGAN-GP update of psi between (0, eps) and (0, -eps), by eps; and its limit 2 h gamma g0.
    jump: dict[str, Any]
    #: GAN with alternating updates and 1 and 5 discriminator steps: moduli at s = 1.99 and 2.01.
    circle: dict[str, list[float]]
    #: Relative change of theta^2 + psi^2 along the flow, and in a simultaneous update beside its closed form.
    conserved: dict[str, float]
    #: Deviation of two published formulas from automatic differentiation.
    published: dict[str, float]


def run(settings: Settings, work: Work) -> Result:
    """Compute all trajectories, eigenvalues and rates."""
    arguments = {
        f"{method.name}, {updates}": {"name": method.name, "updates": updates, "settings": asdict(settings)}
        for method in METHODS
        for updates in ("simultaneous", "alternating")
    }
    results = work.map(measure, arguments, steps=settings.steps, label="methods")
    grid = torch.linspace(-2, 2, 10, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    return Result(
        settings=asdict(settings) | {"factors": list(settings.factors)},
        runs=list(results.values()),
        fields={method.name: _rounded(fields(method, points)) for method in METHODS},
        jump=dirac_theory.jump(settings.h),
        circle=dirac_theory.circle(),
        conserved=dirac_theory.conserved(settings.h, settings.time),
        published=dirac_theory.published(),
    )


def measure(part: Part, name: str, updates: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Trajectories, eigenvalues and rates of one method with one kind of update."""
    method, alternating = BY_NAME[name], updates == "alternating"
    h, steps, seeds = settings["h"], settings["steps"], settings["seeds"]
    near = 2 * torch.rand(seeds, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 1
    starts = torch.cat([torch.ones(1, 2, dtype=torch.float64), near, 2 * near])
    sizes = torch.full((len(starts),), h, dtype=torch.float64)
    path = trajectories(method, starts, sizes, steps, alternating=alternating, advance=part.advance)
    distance = path.norm(dim=2)
    ratio = distance[-1] / distance[0]
    converged = (ratio < THRESHOLD) & (distance[-1] < distance[steps // 2])
    shown = path[: settings["shown_steps"] + 1 : 2, 0]
    result = {
        "method": name,
        "updates": updates,
        "converges": method.converges,
        "near": int(converged[: seeds + 1].sum()),
        "far": int(converged[seeds + 1 :].sum()),
        # Final distance relative to the start's, near: smallest and largest.
        "ratio": [float(ratio[: seeds + 1].min()), float(ratio[: seeds + 1].max())],
        "smallest_ratio": float(ratio.min()),
        "distance": float(distance[-AVERAGED:, 0].mean()),
        # Every second state, until the trajectory has left the picture.
        "path": _rounded(shown[: _last_inside(shown) + 2]),
    }
    if method.jacobian is not None:
        result |= dirac_theory.eigenvalues(method, h, alternating=alternating)
    if method.converges:
        factors, growth = settings["factors"], settings["growth"]
        result |= dirac_theory.rates(method, factors, growth, alternating=alternating)
    return result


def _rounded(values: Tensor) -> list[Any]:
    """Numbers for the picture."""
    return [[round(x, 3) for x in row] for row in values.tolist()]


def _last_inside(path: Tensor, radius: float = 4.0) -> int:
    """Index of the last state within a distance of the equilibrium."""
    return int((path.norm(dim=1) < radius).nonzero().max())


def claim(result: Result) -> list[Sentence]:
    """The paper's statements about the Dirac-GAN, and those derived in `dirac_theory`."""
    return [*_convergence(result), *_theory(result)]


def _convergence(result: Result) -> list[Sentence]:
    steps, h, seeds = (result.settings[key] for key in ("steps", "h", "seeds"))
    good = [each for each in result.runs if each["converges"]]
    bad = [each for each in result.runs if not each["converges"]]
    farthest, nearest = max(each["ratio"][1] for each in good), min(each["smallest_ratio"] for each in bad)
    slowest = max(each["modulus"] for each in good)
    consensus = [each for each in good if each["method"] == METHODS[-1].name]
    others = [each for each in good if each not in consensus]
    radii = {}
    for kind in ("simultaneous", "alternating"):
        exact = dirac_theory.non_saturating_radius(h, steps - AVERAGED / 2, alternating=kind == "alternating")
        radii[kind] = _run(result, METHODS[2].name, kind)["distance"], exact
    error = max(abs(measured / exact - 1) for measured, exact in radii.values())
    return [
        Sentence(
            "Instance noise, R1/R2 and consensus optimization converge near the equilibrium with both kinds of update: "
            f"from all {seeds + 1} starts in [-1, 1]^2 the distance after {steps} updates is at most {farthest:.1e} of "
            "that of the start.",
            all(each["near"] == seeds + 1 for each in good),
            f"{THRESHOLD:g}; derived: the largest modulus {slowest:.4f} gives about {slowest**steps:.0e}",
        ),
        Sentence(
            "GAN (1 and 5 discriminator steps), non-saturating GAN, WGAN, clipped WGAN and WGAN-GP are not within "
            f"{100 * THRESHOLD:g} % of the start's distance after {steps} updates of either kind from any of the "
            f"{2 * seeds + 1} starts: the smallest share is {nearest:.2g}. The non-saturating GAN with alternating "
            "updates approaches the equilibrium, but sublinearly (next sentence).",
            nearest >= THRESHOLD,
            f"{THRESHOLD:g}; derived: the non-saturating GAN with alternating updates reaches it from (1, 1) after "
            f"about {round(4 * (THRESHOLD**-2 - 1) / h, -3):,.0f} updates",
        ),
        Sentence(
            "The non-saturating GAN has no linear rate of convergence: with simultaneous updates it ends in a cycle "
            f"of radius {radii['simultaneous'][0]:.3f}, closed form sqrt(2 h) = {radii['simultaneous'][1]:.3f}; with "
            f"alternating ones the distance falls to {radii['alternating'][0]:.4f}, closed form 1 / sqrt(1/2 + h n / "
            f"8) = {radii['alternating'][1]:.4f}.",
            error < 0.05,
            f"5 %: the closed forms hold to first order in h; they deviate by {100 * error:.1f} %",
        ),
        Sentence(
            f"From the starts in [-2, 2]^2, instance noise and R1/R2 converge from all {seeds} with both kinds of "
            f"update. Consensus optimization does from {' and '.join(str(each['far']) for each in consensus)} of "
            f"{seeds}, and did not converge in {steps} updates from the others.",
            all(each["far"] == seeds for each in others) and all(each["far"] < seeds for each in consensus),
            "observed here; the eigenvalues say nothing about starts far from the equilibrium. Derived, not tested: "
            "the penalty abs(v)^2 of consensus optimization vanishes in a valley of large abs(psi)",
        ),
    ]


def _theory(result: Result) -> list[Sentence]:
    h = result.settings["h"]
    with_jacobian = [each for each in result.runs if "deviation" in each]
    simple = max(each["deviation"] for each in with_jacobian if not each["double"])
    double = max(each["deviation"] for each in with_jacobian if each["double"])
    coefficients = max(each["coefficient_deviation"] for each in with_jacobian)
    below, above = _rates(result, below=True), _rates(result, below=False)
    error = max(abs(math.log(measured) / math.log(exact) - 1) for measured, exact in [*below, *above])
    gan = {kind: _run(result, METHODS[0].name, kind)["modulus"] for kind in ("simultaneous", "alternating")}
    inside, outside = result.circle["1.99"], result.circle["2.01"]
    differences, limit = result.jump["difference"], result.jump["limit"]
    flow, turns, step, closed_step = (result.conserved[key] for key in ("flow", "turns", "step", "closed_step"))
    return [
        Sentence(
            f"The eigenvalues of all {len(with_jacobian)} Jacobians by automatic differentiation are the closed forms: "
            f"the difference is {simple:.0e}, that of trace and determinant {coefficients:.0e}, and that of the double "
            f"eigenvalue at the critical penalty {double:.0e}.",
            simple < 1e-10 and coefficients < 1e-10 and double < 1e-7,
            "1e-10; for the double eigenvalue 1e-7, above the root of the rounding of float64",
        ),
        Sentence(
            f"The GAN's eigenvalues have modulus {gan['simultaneous']:.6f} = sqrt(1 + h^2/4) with simultaneous "
            "updates, and are on the unit circle with alternating ones if and only if s = sqrt(n_g n_d) h f'(0) is at "
            f"most 2: with 1 and 5 discriminator steps the moduli are {inside[0]:.6f} and {inside[1]:.6f} at s = 1.99, "
            f"{outside[0]:.3f} and {outside[1]:.3f} at 2.01.",
            abs(gan["simultaneous"] - math.sqrt(1 + h**2 / 4)) < 1e-8
            and max(abs(modulus - 1) for modulus in [gan["alternating"], *inside]) < 1e-8
            and min(outside) > 1.1,
            "derived: at 2.01 the modulus is 1.221; 1e-8 since results are stored with 9 digits",
        ),
        Sentence(
            "The update of WGAN-GP has no Jacobian at the equilibrium: between psi = eps and -eps it jumps by "
            f"{differences[0]:.4f}, {differences[1]:.4f} and {differences[2]:.4f} for eps = 1e-3, 1e-6 and 1e-9; the "
            f"closed form of the limit is 2 h gamma g0 = {limit:.4f}.",
            abs(differences[-1] - limit) < 1e-8,
            "derived: the difference is 2 h gamma g0 + 2 (1 - h gamma) eps",
        ),
        Sentence(
            "The limit of the step size is the closed form: trajectories near the equilibrium contract at 0.98 and "
            f"0.99 of it (by factors of at most {max(pair[0] for pair in below):.4f} per update) and expand at 1.01 "
            f"and 1.02 (by at least {min(pair[0] for pair in above):.4f}). The logarithm of the factor deviates from "
            f"that of the spectral radius by at most {100 * error:.2g} %.",
            all(max(pair) < 1 for pair in below) and all(min(pair) > 1 for pair in above) and error < 0.05,
            "5 %: the slope is fitted to a distance that oscillates about its trend",
        ),
        Sentence(
            f"The GAN's flow keeps theta^2 + psi^2: it changes by {flow:.0e} in {turns:.1f} turns. A simultaneous "
            f"update adds h^2 |v|^2, at (1, 1) the share {step:.6f}.",
            flow < 1e-8 and abs(step - closed_step) < 1e-10,
            "1e-8: the relative tolerance of the solver is 1e-11 in each of about 1000 steps or fewer",
        ),
    ]


def _run(result: Result, method: str, updates: str) -> dict[str, Any]:
    return next(each for each in result.runs if (each["method"], each["updates"]) == (method, updates))


def _rates(result: Result, *, below: bool) -> list[tuple[float, float]]:
    """Measured and exact factors per update for the step sizes below or above the limit."""
    factors = result.settings["factors"]
    return [
        (measured, exact)
        for each in result.runs
        if "rates" in each
        for factor, measured, exact in zip(factors, each["rates"], each["exact_rates"], strict=True)
        if (factor < 1) == below
    ]


def figures(result: Result) -> list[Figure]:
    """Convergence, moduli and step sizes; the paper's table, which is quoted."""
    rows, seeds = [], result.settings["seeds"]
    for method in METHODS:
        runs = [_run(result, method.name, kind) for kind in ("simultaneous", "alternating")]
        ours = "; ".join(
            f"{each['updates']}: from {each['near']} of {seeds + 1} starts near, {each['far']} of {seeds} far"
            + (f", modulus {each['modulus']:.4f}" if "modulus" in each else "")
            for each in runs
        )
        answer = "converges" if method.converges else "no linear convergence"
        mark = "checked" if method.name.startswith(("Instance", "Consensus")) else "derived"
        rows.append(Figure(f"{method.name}: λ = {method.eigenvalues}", answer, ours, mark))
    circle = " / ".join(f"{result.circle[s][0]:.6f}" for s in ("1.99", "2.01"))
    name = "GAN, alternating: modulus at sqrt(n_g n_d) h f'(0) = 1.99 / 2.01"
    rows.append(Figure(name, "1 / above 1", circle, "checked"))
    for name, (modulus, mark) in MODULI.items():
        ours = f"{_run(result, name, 'simultaneous')['modulus']:.4f}"
        rows.append(Figure(f"Modulus at h = 0.2, simultaneous: {name}", f"{modulus:.4f}", ours, mark))
    for name, formula in LIMITS.items():
        limits = [_run(result, name, kind)["limit"] for kind in ("simultaneous", "alternating")]
        ours = f"{limits[0]:.4f}; alternating {limits[1]:.4f}, derived here"
        rows.append(Figure(f"Limit of the step size, simultaneous: {name}", formula, ours, "derived"))
    for name, continuous, general, ours in REMEMBERED:
        runs = [each for each in result.runs if each["method"].split(",")[0] == ours]
        converges = all(each["near"] == seeds + 1 for each in runs)
        dirac = f"Dirac-GAN: {'converges' if converges else 'does not'}" if runs else "not computed"
        quantity = f"Local convergence for absolutely continuous data / in general: {name}"
        rows.append(Figure(quantity, f"{continuous} / {general}", f"not computed / {dirac}", "remembered"))
    return rows


def summary(result: Result) -> str:
    """What the paper says, what was done, and what came out."""
    steps, h, seeds = (result.settings[key] for key in ("steps", "h", "seeds"))
    good = [
        method.name
        for method in METHODS
        if all(each["near"] == seeds + 1 for each in result.runs if each["method"] == method.name)
    ]
    none = {each["method"] for each in result.runs} - {each["method"] for each in result.runs if each["near"] > 0}
    limits = [_run(result, "R1/R2, γ = 0.3", kind)["limit"] for kind in ("simultaneous", "alternating")]
    return (
        "The paper shows with a game of one parameter for each player that unregularized GANs and Wasserstein GANs "
        "need not converge if the data are not absolutely continuous, and that instance noise, zero-centred gradient "
        f"penalties and consensus optimization do. Ten methods ran for {steps} updates of size {h:g}, simultaneous and "
        f"alternating, from (1, 1), {seeds} random starts in [-1, 1]^2 and {seeds} in [-2, 2]^2. From all starts in "
        f"[-1, 1]^2, {len(good)} methods converged with both kinds of update ({'; '.join(good)}); {len(none)} "
        "did from none; of these, the non-saturating GAN with alternating updates approaches the equilibrium, but "
        "sublinearly. The panels (a) to (j) show the vector fields and the trajectories from (1, 1). The "
        f"eigenvalues by automatic differentiation (k) are the closed forms, to "
        f"{max(each.get('coefficient_deviation', 0) for each in result.runs):.0e} in trace and determinant, and "
        "trajectories contract just below the limit of the step size and expand just above it (l). The limit is larger "
        f"with alternating updates for instance noise, R1 with γ = 0.3 ({limits[1]:.2f} against {limits[0]:.2f}) and "
        "consensus optimization, and smaller for R1 with γ = 1. Two published formulas deviate from automatic "
        f"differentiation: the eigenvalue of R1 without the square of f'(0) by {result.published['r1']:.2f} (arXiv "
        f"2501.05441, equation 12 as printed), and the consensus field with the factor 1/2 (public notebook) by "
        f"{result.published['consensus_half']:.3f} at (1, 1). Instance noise is an expectation here, by Gauss-Hermite "
        "quadrature, not an average over samples. Only the Dirac-GAN is computed, a case of data that are not "
        "absolutely continuous: the paper's table is quoted from memory."
    )
