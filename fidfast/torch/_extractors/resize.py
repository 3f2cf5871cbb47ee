"""The resizes of commonly used tools. They differ, and so do the distances.

Parmar, Zhang & Zhu, "On Aliased Resizing and Surprising Subtleties in GAN Evaluation" (2022).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fidfast._arguments import as_dense, require_choice, require_instance, require_integer, require_sequence, shown

__all__ = ["RESIZES", "check_resize", "resize"]

Size = tuple[int, int]


def resize(image: torch.Tensor, method: str, size: Size) -> torch.Tensor:
    """Resize one image to the input size of a network.

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

    Raises
    ------
    ValueError
        If `method` is not one of `RESIZES`.
    """
    require_choice("method", method, tuple(RESIZES))
    height, width = (require_integer(f"size[{i}]", side, 1, 2**24) for i, side in enumerate(_pair(size)))
    image = require_instance("image", as_dense(image, "image"), torch.Tensor)
    if image.ndim != 3 or 0 in image.shape:
        raise ValueError(f"image must be (3, height, width), got shape {tuple(image.shape)}")
    return RESIZES[method](image[None].float(), (height, width))[0]


def _pair(size: Any) -> list[Any]:
    sides = require_sequence("size", size)
    if len(sides) != 2:
        raise ValueError(f"size must be (height, width), got {len(sides)} numbers")
    return sides


def check_resize(method: str) -> str:
    """Return `method` if it is one of `RESIZES`, else raise a ValueError."""
    if not isinstance(method, str) or method not in RESIZES:
        raise ValueError(f"unknown resize {shown(method)}; choose one of {', '.join(RESIZES)}")
    return method


def _tf1_bilinear(images: torch.Tensor, size: Size) -> torch.Tensor:
    """TensorFlow 1's bilinear resize: corners aligned at the origin, no antialiasing. Used by the original FID."""
    height, width = size
    return _tf1_bilinear_axis(_tf1_bilinear_axis(images, 3, width), 2, height)


def _tf1_bilinear_axis(images: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """Interpolate along one axis. Within rows first, then between rows, is bit-identical to TensorFlow."""
    old_size = images.shape[axis]
    step = float(np.float32(old_size / size))
    positions = torch.arange(size, dtype=torch.float32, device=images.device) * step
    below = positions.long()
    fraction = (positions - below).view([-1 if axis == other else 1 for other in range(4)])
    lower = images.index_select(axis, below)
    upper = images.index_select(axis, (below + 1).clamp_max(old_size - 1))
    return lower + (upper - lower) * fraction


def _torch_bilinear(images: torch.Tensor, size: Size) -> torch.Tensor:
    """Half-pixel centres, no antialiasing."""
    return torch.nn.functional.interpolate(images, size, mode="bilinear", align_corners=False)


def _torch_bilinear_antialias(images: torch.Tensor, size: Size) -> torch.Tensor:
    """Half-pixel centres, with a triangle filter of the width of a new pixel."""
    return torch.nn.functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _torch_bicubic_antialias(images: torch.Tensor, size: Size) -> torch.Tensor:
    """Half-pixel centres, antialiased, not clipped. EDM2's for FD-DINOv2."""
    return torch.nn.functional.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True)


def _pil_bicubic(images: torch.Tensor, size: Size) -> torch.Tensor:
    """PIL's antialiased bicubic filter in floating point, per channel, clipped to the range of pixels."""
    from PIL import Image

    height, width = size
    planes = images.flatten(0, 1).cpu().numpy()
    resized = [np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC)) for plane in planes]
    return torch.from_numpy(np.stack(resized)).clamp(0, 255).unflatten(0, images.shape[:2]).to(images.device)


def _pil_bicubic_uint8(images: torch.Tensor, size: Size) -> torch.Tensor:
    """PIL's antialiased bicubic filter on 8-bit images, rounded. torchvision's and timm's transforms of images."""
    return _pil_uint8(images, size, "BICUBIC")


def _pil_bilinear_uint8(images: torch.Tensor, size: Size) -> torch.Tensor:
    """PIL's antialiased triangle filter on 8-bit images, rounded. The default of torchvision's ``Resize``."""
    return _pil_uint8(images, size, "BILINEAR")


def _pil_uint8(images: torch.Tensor, size: Size, method: str) -> torch.Tensor:
    from PIL import Image

    height, width = size
    planes = images.round().clamp(0, 255).to(torch.uint8).flatten(0, 1).cpu().numpy()
    resized = [Image.fromarray(plane).resize((width, height), Image.Resampling[method]) for plane in planes]
    tensor = torch.from_numpy(np.stack([np.asarray(plane) for plane in resized])).float()
    return tensor.unflatten(0, images.shape[:2]).to(images.device)


#: Functions from (n, 3, height, width) to a network's input size, by the name stored in the extractor's name.
RESIZES: dict[str, Callable[[torch.Tensor, Size], torch.Tensor]] = {
    "tf1-bilinear": _tf1_bilinear,
    "torch-bilinear": _torch_bilinear,
    "torch-bilinear-antialias": _torch_bilinear_antialias,
    "torch-bicubic-antialias": _torch_bicubic_antialias,
    "pil-bicubic": _pil_bicubic,
    "pil-bicubic-uint8": _pil_bicubic_uint8,
    "pil-bilinear-uint8": _pil_bilinear_uint8,
}
