"""Generator and critic of lines of characters: residual blocks of 1-D convolutions (Gulrajani et al. 2017)."""

from __future__ import annotations

import torch
from torch import nn


class TextGenerator(nn.Sequential):
    """From z (n, latent) to lines (n, characters, length): a distribution over the characters at each position."""

    def __init__(self, *, characters: int, length: int, width: int, blocks: int, latent: int) -> None:
        super().__init__(
            nn.Linear(latent, width * length),
            nn.Unflatten(1, (width, length)),
            *[ResidualBlock(width) for _ in range(blocks)],
            nn.Conv1d(width, characters, 1),
            nn.Softmax(dim=1),
        )
        self.apply(_initialise)


class TextCritic(nn.Sequential):
    """From lines (n, characters, length), one-hot or distributions, to (n,) numbers."""

    def __init__(self, *, characters: int, length: int, width: int, blocks: int) -> None:
        super().__init__(
            nn.Conv1d(characters, width, 1),
            *[ResidualBlock(width) for _ in range(blocks)],
            nn.Flatten(),
            nn.Linear(width * length, 1),
            nn.Flatten(0),
        )
        self.apply(_initialise)


class ResidualBlock(nn.Sequential):
    """``x + 0.3 f(x)``, where f has two convolutions of five characters, each after a ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.ReLU(), nn.Conv1d(width, width, 5, padding=2), nn.ReLU(), nn.Conv1d(width, width, 5, padding=2)
        )

    def forward(self, lines: torch.Tensor) -> torch.Tensor:
        """Lines (n, width, length) to the same shape."""
        return lines + 0.3 * super().forward(lines)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d):
        nn.init.kaiming_normal_(module.weight)
    elif isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
    if isinstance(module, (nn.Conv1d, nn.Linear)) and module.bias is not None:
        nn.init.zeros_(module.bias)
