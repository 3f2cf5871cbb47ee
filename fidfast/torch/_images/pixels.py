"""Batches of images in the layouts and ranges that users pass, as tensors of pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from fidfast._arguments import as_array, as_dense, shape_of_array

__all__ = ["image_batch", "pixels_of_floats"]


def image_batch(images: Any, name: str = "images") -> torch.Tensor:
    """The images as a tensor (n, 3, height, width), or (n, 1, height, width) if grey; pixels are not changed.

    Parameters
    ----------
    images : tensor or array
        (n, channels, height, width); an array also (n, height, width, channels), if it cannot be the former.
    name : str, default "images"
        For error messages.

    Raises
    ------
    TypeError, ValueError
        If the images are not a tensor or array of such a shape.
    """
    images = as_dense(images, name)
    shape = shape_of_array(images)
    shapes = "(n, 3, height, width) or (n, 1, height, width)"
    if not isinstance(images, torch.Tensor):
        if not hasattr(images, "__array__"):
            raise TypeError(f"{name} must be a tensor {shapes}, or an array, got {type(images).__name__}")
        shapes += ", or channels last"
        try:
            array = as_array(name, images)
            native = array.dtype.newbyteorder("=")
            images = torch.from_numpy(np.array(array, native))  # torch needs writable memory and forward strides
        except TypeError as error:  # of objects, for example
            raise TypeError(f"{name} must be {shapes} of numbers: {error}") from error
        if images.ndim == 4 and images.shape[1] not in (1, 3):
            images = images.movedim(3, 1)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"{name} must be {shapes}, got shape {shape}")
    return images


def pixels_of_floats(images: torch.Tensor) -> torch.Tensor:
    """Pixels from 0 to 255, float32, of floats from 0 to 1.

    Values outside by rounding are clipped: up to 4 epsilons of the dtype, and of float32 for float64, to which float32
    images are often converted.

    Raises
    ------
    ValueError
        If other values are outside, NaN or infinite.
    """
    low, high = (float(value) for value in images.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            "images of floats must be from 0 to 1, but they hold NaN or infinity: check what computes them"
        )
    tolerance = 4 * max(torch.finfo(images.dtype).eps, torch.finfo(torch.float32).eps)
    if low >= -tolerance and high <= 1 + tolerance:
        return images.float().clamp(0, 1) * 255.0
    if low >= -1 - tolerance and high <= 1 + tolerance:
        advice = "if they are from -1 to 1, pass (x + 1) / 2"
    elif low >= 0 and 2 < high <= 255:
        advice = "if they are from 0 to 255, pass x / 255, or uint8"
    else:
        advice = "rescale them"
    raise ValueError(f"images of floats must be from 0 to 1, got values from {low:.9g} to {high:.9g}: {advice}")
