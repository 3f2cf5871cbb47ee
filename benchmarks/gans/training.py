"""The training loop of the image and text experiments: updates, measurements, and the state to continue from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from benchmarks.gans.networks import gradient_norms, interpolate
from benchmarks.gans.work import Part

#: Computes the loss of the discriminator from real and fake samples.
Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


class Gan:
    """Two networks and their optimisers, which share the interface of all experiments.

    Parameters
    ----------
    generator : module
        From (n, latent) standard normal numbers to samples.
    discriminator : module
        From samples to (n,) numbers, larger for real ones.
    next_real : callable
        ``next_real(n)`` returns n real samples, drawn with torch's global random numbers.
    losses : Losses
        Of the two networks.
    rates : (float, float)
        Learning rates of the discriminator and the generator.
    betas : (float, float)
        Of both Adam optimisers.
    critic_steps : int
        Updates of the discriminator for each update of the generator.
    batch_size, latent : int
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        next_real: Callable[[int], torch.Tensor],
        losses: Losses,
        *,
        rates: tuple[float, float],
        betas: tuple[float, float],
        critic_steps: int = 1,
        batch_size: int = 64,
        latent: int = 100,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self._next_real, self._losses = next_real, losses
        self._critic_steps, self._batch_size, self._latent = critic_steps, batch_size, latent
        self._optimizers = [
            torch.optim.Adam(network.parameters(), lr=rate, betas=betas)
            for network, rate in zip((discriminator, generator), rates, strict=True)
        ]

    def update(self) -> dict[str, float]:
        """One update of the generator, after those of the discriminator; the last losses of both."""
        for _ in range(self._critic_steps):
            with torch.no_grad():
                fake = self.generator(self._latents(self._batch_size))
            d_loss = self._losses.discriminator(self.discriminator, self._next_real(self._batch_size), fake)
            self._descend(0, d_loss)
        self.discriminator.requires_grad_(False)
        g_loss = self._losses.generator(self.discriminator(self.generator(self._latents(self._batch_size))))
        self._descend(1, g_loss)
        self.discriminator.requires_grad_(True)
        return {"d_loss": d_loss.item(), "g_loss": g_loss.item()}

    def sample(self, n: int) -> torch.Tensor:
        """Generate n samples, with batch norms in evaluation mode."""
        self.generator.eval()
        with torch.inference_mode():
            samples = self.generator(self._latents(n))
        self.generator.train()
        return samples

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers and torch's random numbers."""
        return {
            "modules": [module.state_dict() for module in self._modules()],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        for module, stored in zip(self._modules(), state["modules"], strict=True):
            module.load_state_dict(stored)
        for optimizer, stored in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        torch.set_rng_state(state["random"])

    def _modules(self) -> list[nn.Module]:
        return [self.generator, self.discriminator]

    def _latents(self, n: int) -> torch.Tensor:
        return torch.randn(n, self._latent)

    def _descend(self, which: int, loss: torch.Tensor) -> None:
        self._optimizers[which].zero_grad()
        loss.backward()
        self._optimizers[which].step()


class Losses(Protocol):
    """Losses that the two networks minimise."""

    def discriminator(self, network: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """The discriminator's, with its penalties."""

    def generator(self, outputs: torch.Tensor) -> torch.Tensor:
        """The generator's, from the discriminator's outputs (n,) for fakes."""


class NonSaturating:
    """The non-saturating loss of GANs (Goodfellow et al. 2014), optionally with R1 (Mescheder et al. 2018).

    `r1` is the weight of ``E |grad D(x)|^2`` on real samples, without a factor 1/2, as in the paper's code.
    """

    def __init__(self, r1: float = 0.0) -> None:
        self._r1 = r1

    def discriminator(self, network: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """``E softplus(-D(real)) + E softplus(D(fake))``, and the penalty."""
        softplus = nn.functional.softplus
        loss = softplus(-network(real)).mean() + softplus(network(fake)).mean()
        return loss + self._r1 * gradient_norms(network, real).square().mean() if self._r1 else loss

    def generator(self, outputs: torch.Tensor) -> torch.Tensor:
        """``E softplus(-D(fake))``."""
        return nn.functional.softplus(-outputs).mean()


class Wasserstein:
    """The loss of WGAN-GP (Gulrajani et al. 2017) with its gradient penalty."""

    def __init__(self, penalty: float = 10.0) -> None:
        self._penalty = penalty

    def discriminator(self, network: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        """``E D(fake) - E D(real) + penalty E (|grad D(x)| - 1)^2``, x between real and fake."""
        norms = gradient_norms(network, interpolate(real, fake))
        return network(fake).mean() - network(real).mean() + self._penalty * (norms - 1).square().mean()

    def generator(self, outputs: torch.Tensor) -> torch.Tensor:
        """``-E D(fake)``."""
        return -outputs.mean()


def train(
    part: Part, gan: Gan, *, updates: int, measure_every: int, measure: Callable[[Gan], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Train, and measure every `measure_every` updates, before the first and after the last one included.

    Parameters
    ----------
    part : Part
        Stores the state after each measurement; one step of its progress is one update of the generator.
    gan : Gan
        Has been created after ``torch.manual_seed``: all randomness is torch's.
    updates, measure_every : int
    measure : callable
        Returns JSON types.

    Returns
    -------
    list of dict
        For each measurement its values, ``update``, ``seconds`` (wall-clock time of the updates so far, without the
        measurements), ``measure_seconds``, and the losses, averaged since the last measurement.

    Raises
    ------
    ValueError
        If `updates` is not a multiple of `measure_every`.
    FloatingPointError
        If a loss becomes infinite or NaN.
    """
    if updates % measure_every:
        raise ValueError(f"updates must be a multiple of measure_every, got {updates} and {measure_every}")
    curve: list[dict[str, Any]] = []
    seconds = 0.0
    if (state := part.load()) is not None:
        gan.load_state_dict(state["gan"])
        curve = state["curve"]
        seconds = curve[-1]["seconds"]
    while not curve or curve[-1]["update"] < updates:
        losses: dict[str, float] = {}
        start = time.perf_counter()
        steps = measure_every if curve else 0
        for _ in range(steps):
            for name, loss in gan.update().items():
                if not math.isfinite(loss):
                    raise FloatingPointError(f"{name} is {loss}: the training diverged; choose smaller rates")
                losses[name] = losses.get(name, 0.0) + loss / measure_every
            part.advance()
        seconds += time.perf_counter() - start
        done = curve[-1]["update"] + steps if curve else 0
        start = time.perf_counter()
        # Its random numbers must not change those of the training.
        with torch.random.fork_rng(devices=[]):
            measured = measure(gan)
        point = {"update": done, "seconds": seconds, "measure_seconds": time.perf_counter() - start}
        curve.append({**point, **losses, **measured})
        part.save({"gan": gan.state_dict(), "curve": curve}, steps=done)
    return curve


def rate_text(rate: float) -> str:
    """A learning rate as text, ``5e-4``."""
    mantissa, exponent = f"{rate:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
