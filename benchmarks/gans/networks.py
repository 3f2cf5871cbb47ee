"""Generators and discriminators for small grey images."""

from __future__ import annotations

import torch
from torch import nn


class ImageGenerator(nn.Sequential):
    """The generator of DCGAN (Radford et al. 2016) with two transposed convolutions, from z to (n, 1, size, size).

    Values are from -1 to 1. `size` is a multiple of 4; `width` is the number of channels before the last layer.
    """

    def __init__(self, size: int, width: int, latent: int) -> None:
        first = size // 4
        super().__init__(
            nn.Linear(latent, 2 * width * first**2, bias=False),
            nn.Unflatten(1, (2 * width, first, first)),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        self.apply(_initialise)


class ImageDiscriminator(nn.Sequential):
    """The discriminator of DCGAN with two convolutions, from (n, 1, size, size) to (n,) logits.

    ``batch_norm=False`` for penalties on the gradient of each image, which batch norms would mix.
    """

    def __init__(self, size: int, width: int, *, batch_norm: bool) -> None:
        last = size // 4
        super().__init__(
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=not batch_norm),
            nn.BatchNorm2d(2 * width) if batch_norm else nn.Identity(),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * last**2, 1),
            nn.Flatten(0),
        )
        self.apply(_initialise)


def _initialise(module: nn.Module) -> None:
    """The normal initialisation of DCGAN."""
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def interpolate(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Points on the lines between pairs of samples, uniformly distributed (WGAN-GP, Gulrajani et al. 2017)."""
    weight = torch.rand(len(real), *[1] * (real.ndim - 1))
    return weight * real + (1 - weight) * fake


def gradient_norms(discriminator: nn.Module, samples: torch.Tensor) -> torch.Tensor:
    """Norms (n,) of the gradient of each sample's output in the sample, differentiable in the parameters."""
    samples = samples.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(samples).sum(), samples, create_graph=True)
    return gradient.flatten(1).norm(dim=1)
