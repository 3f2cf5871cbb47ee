"""Preprocessing and covariance conventions of the commonly used tools."""

from __future__ import annotations

from typing import NamedTuple

from fidfast._arguments import require_choice

__all__ = ["LIKE", "Convention", "convention_of"]


class Convention(NamedTuple):
    """How a tool processes pixels before the Inception network, and how it normalises the covariance."""

    #: One of `fidfast.torch.RESIZES`.
    resize: str
    #: A pixel ``x`` becomes ``(x - offset) / divisor``.
    offset: float
    divisor: float
    #: The covariance is the scatter divided by ``num_samples - ddof``.
    ddof: int


#: Conventions by tool. All of them use the same network.
LIKE = {
    "torch-fidelity": Convention("tf1-bilinear", 128.0, 128.0, 1),
    "pytorch-fid": Convention("torch-bilinear", 127.5, 127.5, 1),
    "clean-fid": Convention("pil-bicubic", 128.0, 128.0, 1),
    "torchmetrics": Convention("torch-bilinear-antialias", 128.0, 128.0, 1),
    "stylegan3": Convention("tf1-bilinear", 128.0, 128.0, 0),
    "adm": Convention("tf1-bilinear", 128.0, 128.0, 1),
}


def convention_of(like: str) -> Convention:
    """The convention of a tool; raises a ValueError for other names."""
    return LIKE[require_choice("like", like, tuple(LIKE))]
