"""Extractors by name, and the conventions of the field's tools."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import NamedTuple

from fidfast.torch._extractors.extractors import Extractor, as_extractor, known_resize

__all__ = ["LIKE", "Convention", "load_extractor"]


class Convention(NamedTuple):
    """What a tool does between the pixels and the number."""

    #: How images come to the network's size, one of `fidfast.torch.RESIZES`.
    resize: str
    #: A pixel ``x`` becomes ``(x - offset) / divisor``.
    offset: float
    divisor: float
    #: The covariance is the scatter divided by ``num_samples - ddof``.
    ddof: int


#: The conventions of the field's tools, all with the same network.
LIKE = {
    "torch-fidelity": Convention("tf1-bilinear", 128.0, 128.0, 1),
    "pytorch-fid": Convention("torch-bilinear", 127.5, 127.5, 1),
    "clean-fid": Convention("pil-bicubic", 128.0, 128.0, 1),
    "torchmetrics": Convention("torch-bilinear-antialias", 128.0, 128.0, 1),
    "stylegan3": Convention("tf1-bilinear", 128.0, 128.0, 0),
}


def load_extractor(
    name: str, *, weights: str | None = None, like: str | None = None, resize: str | None = None
) -> Extractor:
    """An extractor by its name on the command line.

    Parameters
    ----------
    name : str
        "inception" (the 2015-12-05 network of the FID), "efficientnet-lite0" (its weights are in a package, nothing
        is downloaded) or "package.module:factory", a callable without arguments that returns a network or callable.
    weights : path, optional
        Of "inception": the file of its weights; downloaded where it is not given.
    like : str, optional
        Of "inception": one of `LIKE`, the tool whose resize and range of pixels are used.
    resize : str, optional
        One of `fidfast.torch.RESIZES`, instead of the extractor's own.

    Raises
    ------
    ImportError
        If a package that the extractor needs is not installed.
    ValueError, TypeError, FileNotFoundError
        If the name is not known, or an option does not belong to it.
    """
    if like is not None and like not in LIKE:
        raise ValueError(f"unknown tool {like!r}; known are {', '.join(LIKE)}")
    if name != "inception" and (weights or like):
        raise ValueError(f"{'weights' if weights else 'like'} is an option of the extractor inception, not of {name}")
    if name == "inception":
        from fidfast.torch._extractors.inception import inception

        return _resized(inception(weights, LIKE[like or "torch-fidelity"]), resize)
    if name == "efficientnet-lite0":
        from fidfast.torch._extractors.efficientnet import efficientnet_lite0

        return _resized(efficientnet_lite0(), resize)
    module, colon, factory = name.partition(":")
    if not (module and colon and factory):
        known = "inception, efficientnet-lite0 or package.module:factory"
        raise ValueError(f"unknown extractor {name!r}; known are {known}")
    try:
        make = getattr(importlib.import_module(module), factory)
    except ImportError as error:
        raise ImportError(f"extractor {name!r}: {error}") from error
    except AttributeError as error:
        raise ValueError(f"extractor {name!r}: {error}") from error
    model = make()
    return as_extractor(model, name=getattr(model, "name", None) or name, resize=resize)


def _resized(extractor: Extractor, resize: str | None) -> Extractor:
    return replace(extractor, resize=known_resize(resize)) if resize else extractor
