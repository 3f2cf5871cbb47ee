"""Real images for the tests, and the comparison of their statistics."""

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images


def crops(seed, sizes):
    """Crops of two photographs."""
    rng = np.random.default_rng(seed)
    photographs = load_sample_images().images
    for height, width in sizes:
        photograph = photographs[rng.integers(2)]
        top, left = (
            rng.integers(0, length - side) for length, side in zip(photograph.shape, (height, width), strict=False)
        )
        yield photograph[top : top + height, left : left + width].copy()


def write(folder, images):
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:04}.png")
    return folder


def planes(image):
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def assert_same(stats, expected, error=1e-5):
    """The default tolerance is that of float32 networks, which sum in an order that depends on the batch."""
    mu, sigma = expected
    scale = np.sqrt(np.diag(sigma))
    np.testing.assert_allclose(stats.mu, mu, rtol=error, atol=error * scale.max())
    np.testing.assert_allclose(stats.sigma, sigma, atol=error * np.outer(scale, scale).max(), rtol=0)
