"""The resizes that the field's tools put before their networks. They differ, and so do the distances after them.

Parmar, Zhang & Zhu, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation" (2022).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

__all__ = ["RESIZES", "resize"]

Size = tuple[int, int]


def resize(image: torch.Tensor, method: str, size: Size) -> torch.Tensor:
    """One image in the size that a network takes.

    Parameters
    ----------
    image : (3, height, width) uint8 or float32 tensor
        Pixels from 0 to 255.
    method : str
        One of `RESIZES`.
    size : (height, width)

    Returns
    -------
    (3, height, width) float32 tensor
        Pixels from 0 to 255, not rounded.
    """
    return RESIZES[method](image[None].float(), size)[0]


def _tf1_bilinear(images: torch.Tensor, size: Size) -> torch.Tensor:
    """As TensorFlow 1 did: corners pinned at the origin, no antialiasing. The resize of the original FID."""
    height, width = size
    return _tf1_along(_tf1_along(images, 3, width), 2, height)


def _tf1_along(images: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """One axis after the other gives TensorFlow's own bits: it too interpolates rows first, then between them."""
    old = images.shape[axis]
    step = float(np.float32(old / size))
    places = torch.arange(size, dtype=torch.float32, device=images.device) * step
    below = places.long()
    share = (places - below).view([-1 if axis == other else 1 for other in range(4)])
    lower = images.index_select(axis, below)
    upper = images.index_select(axis, (below + 1).clamp_max(old - 1))
    return lower + (upper - lower) * share


def _torch_bilinear(images: torch.Tensor, size: Size) -> torch.Tensor:
    """Half-pixel centres, no antialiasing."""
    return torch.nn.functional.interpolate(images, size, mode="bilinear", align_corners=False)


def _torch_bilinear_antialias(images: torch.Tensor, size: Size) -> torch.Tensor:
    """Half-pixel centres, a triangle filter as wide as a new pixel."""
    return torch.nn.functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _pil_bicubic(images: torch.Tensor, size: Size) -> torch.Tensor:
    """PIL's antialiased bicubic filter in floating point, each channel by itself, cut to the range of pixels."""
    from PIL import Image

    height, width = size
    planes = images.flatten(0, 1).cpu().numpy()
    resized = [np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC)) for plane in planes]
    return torch.from_numpy(np.stack(resized)).clamp(0, 255).unflatten(0, images.shape[:2]).to(images.device)


#: From (n, 3, height, width) to a network's input size, by the names that stand in the extractor's name.
RESIZES: dict[str, Callable[[torch.Tensor, Size], torch.Tensor]] = {
    "tf1-bilinear": _tf1_bilinear,
    "torch-bilinear": _torch_bilinear,
    "torch-bilinear-antialias": _torch_bilinear_antialias,
    "pil-bicubic": _pil_bicubic,
}
