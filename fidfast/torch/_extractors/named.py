"""Extractors by name."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from typing import Any

from fidfast._arguments import optional, require_path, require_text
from fidfast.torch._extractors.adapters import as_extractor
from fidfast.torch._extractors.conventions import convention_of
from fidfast.torch._extractors.efficientnet import efficientnet_lite0
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.inception import inception
from fidfast.torch._extractors.resize import check_resize

__all__ = ["load_extractor", "open_extractor"]


def load_extractor(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    like: str | None = None,
    resize: str | None = None,
) -> Extractor:
    """Load an extractor by name.

    Parameters
    ----------
    name : str
        "inception" (the network of 2015-12-05, used by the FID), "efficientnet-lite0" (its weights are in a package,
        nothing is downloaded) or "package.module:factory", a callable without arguments that returns a network or
        callable.
    weights : path, optional
        Weights file for "inception". By default torch's cache is searched, then the file is downloaded.
    like : str, optional
        For "inception": one of `LIKE`, the tool whose resize and pixel range are used. Default "torch-fidelity".
    resize : str, optional
        One of `fidfast.torch.RESIZES`; overrides the extractor's own resize.

    Returns
    -------
    Extractor

    Raises
    ------
    ImportError
        If a package that the extractor needs is not installed.
    ValueError, TypeError, FileNotFoundError
        If the name is unknown, or an option does not apply to it.

    Warns
    -----
    UserWarning
        If `weights` are not those of 2015-12-05. The extractor's name then contains their digest, and its distance is
        not called FID.
    """
    require_text("name", name)
    optional(require_path, "weights", weights)
    if resize is not None:
        check_resize(resize)
    convention = convention_of("torch-fidelity" if like is None else like)
    if name != "inception" and (weights or like):
        raise ValueError(f"{'weights' if weights else 'like'} is an option of the extractor inception, not of {name}")
    if name in ("inception", "efficientnet-lite0"):
        extractor = inception(weights, convention) if name == "inception" else efficientnet_lite0()
        return replace(extractor, resize=check_resize(resize)) if resize else extractor
    module, colon, factory = name.partition(":")
    if not (module and colon and factory):
        choices = "inception, efficientnet-lite0, package.module:factory"
        raise ValueError(f"unknown extractor {name!r}; choose one of {choices}")
    try:
        loaded = importlib.import_module(module)
        if not hasattr(loaded, factory):
            file = getattr(loaded, "__file__", None) or "built in"
            raise ValueError(f"extractor {name!r}: module {module!r} has no attribute {factory!r} (it is {file})")
        model = getattr(loaded, factory)()
    except ImportError as error:
        raise ImportError(f"extractor {name!r}: {error}") from error
    return as_extractor(model, name=getattr(model, "name", None) or name, resize=resize)


def open_extractor(extractor: Any) -> Extractor:
    """An extractor given by name, as an `Extractor`, or as anything that `as_extractor` accepts."""
    if isinstance(extractor, str):
        return load_extractor(extractor)
    if not (callable(extractor) or hasattr(extractor, "run")):
        found = type(extractor).__name__
        raise TypeError(f"extractor must be a name, an Extractor, a network or another callable, got {found}")
    return as_extractor(extractor)
