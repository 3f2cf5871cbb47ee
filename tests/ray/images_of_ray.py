"""Images of the tests, and a network for them, in a module that Ray's workers can import."""

import io

import numpy as np
import torch
from PIL import Image

#: Number of images.
N = 40


class Pixels(torch.nn.Module):
    """Seeded random combinations of all pixels."""

    num_features = 5
    input_size = (6, 6)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.nn.Parameter(torch.randn(3 * 6 * 6, 5, generator=generator) / 10)

    def forward(self, images):
        return images.float().flatten(1) @ self.weights


def images_of(rng, sizes=(6, 9)):
    """Images whose heights are drawn from a range."""
    return [rng.integers(0, 256, (rng.integers(*sizes), 7, 3), dtype=np.uint8) for _ in range(N)]


def png(image):
    """The bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()
