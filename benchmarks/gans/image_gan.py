"""A DCGAN on images, its training with measurements, and its extractor: parts of several experiments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gans import classifier, training
from benchmarks.gans.measurement import Measurement
from benchmarks.gans.networks import ImageDiscriminator, ImageGenerator
from benchmarks.gans.work import Part, Work


@dataclass(frozen=True)
class ImageSettings:
    """Settings that all experiments with images have."""

    seeds: int
    dataset: str = "fashion-mnist"
    #: Of the classifier, which is the extractor.
    num_features: int = 128
    epochs: int = 2
    #: Of the two networks.
    width: int = 16
    latent: int = 100


#: Values of `ImageSettings` for the quick presets.
QUICK_IMAGES: dict[str, Any] = {
    "seeds": 2,
    "dataset": "digits",
    "num_features": 32,
    "epochs": 4,
    "width": 8,
    "latent": 16,
}


def train_gan(
    part: Part,
    *,
    trained: dict[str, Any],
    dataset: str,
    seed: int,
    rates: tuple[float, float],
    width: int,
    latent: int,
    updates: int,
    measure_every: int,
    num_samples: int,
    betas: tuple[float, float] = (0.5, 0.999),
    batch_norm: bool = True,
    r1: float = 0.0,
    critic_steps: int = 1,
    penalty: float | None = None,
) -> list[dict[str, Any]]:
    """Train a DCGAN; a part of a run. Returns its curve.

    Parameters
    ----------
    trained : dict
        Of `classifier.train`.
    rates : (float, float)
        Of the discriminator and the generator.
    batch_norm : bool, default True
        Of the discriminator.
    critic_steps : int, default 1
        Updates of the discriminator for each update of the generator.
    penalty : float, optional
        If given, the loss is that of WGAN-GP with this weight of the penalty, and `r1` is not used.
    """
    images = training_images(dataset)
    measure = Measurement(
        classifier.extractor(dataset, trained["weights"]),
        classifier.reference(dataset, trained),
        num_samples=num_samples,
    )
    torch.manual_seed(seed)
    gan = make_gan(
        images,
        width=width,
        latent=latent,
        batch_norm=batch_norm,
        losses=training.NonSaturating(r1) if penalty is None else training.Wasserstein(penalty),
        rates=rates,
        betas=betas,
        critic_steps=critic_steps,
    )
    return training.train(part, gan, updates=updates, measure_every=measure_every, measure=measure)


def train_extractor(work: Work, settings: Any) -> dict[str, Any]:
    """The result of `classifier.train` for the settings' ``dataset``, ``num_features`` and ``epochs``."""
    chosen = {name: getattr(settings, name) for name in ("dataset", "num_features", "epochs")}
    return work.map(classifier.train, {"classifier": chosen}, label="classifier")["classifier"]


def training_images(dataset: str) -> torch.Tensor:
    """(n, 1, height, width) from -1 to 1."""
    return classifier.to_tensor(classifier.SETS[dataset][0]().images)


def make_gan(
    images: torch.Tensor,
    *,
    width: int,
    latent: int,
    losses: training.Losses,
    rates: tuple[float, float],
    betas: tuple[float, float] = (0.5, 0.999),
    batch_norm: bool = True,
    critic_steps: int = 1,
) -> training.Gan:
    """A DCGAN of images (n, 1, height, width), with torch's random numbers."""
    size = images.shape[-1]
    return training.Gan(
        ImageGenerator(size, width, latent),
        ImageDiscriminator(size, width, batch_norm=batch_norm),
        lambda n: images[torch.randint(len(images), (n,))],
        losses,
        rates=rates,
        betas=betas,
        critic_steps=critic_steps,
        latent=latent,
    )
