"""Extractors by name."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fidfast._arguments import optional, require_path, require_sequence, require_text
from fidfast.torch._extractors.adapters import as_extractor
from fidfast.torch._extractors.conventions import convention_of
from fidfast.torch._extractors.efficientnet import efficientnet_lite0
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.inception import INCEPTION_OUTPUTS, inception_extractors
from fidfast.torch._extractors.resize import check_resize

__all__ = ["load_extractor", "load_extractors", "name_of_extractor", "open_extractor", "open_extractors"]


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
        "inception" (the 2,048 pooled features of the network of 2015-12-05, used by the FID), "inception-spatial"
        (its 2,023 features of the sFID), "inception-logits" (its 1,008 logits without biases, used by the Inception
        Score), "efficientnet-lite0" (its weights are in a package, nothing is downloaded) or "package.module:factory",
        a callable without arguments that returns a network or callable.
    weights : path, optional
        Weights file of the Inception network. By default torch's cache is searched, then the file is downloaded.
    like : str, optional
        For the Inception network: one of `LIKE`, the tool whose resize and pixel range are used. Default
        "torch-fidelity".
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
    return load_extractors([name], weights=weights, like=like, resize=resize)[0]


def load_extractors(
    names: Sequence[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    like: str | None = None,
    resize: str | None = None,
) -> list[Extractor]:
    """Load several extractors by name; those of the same network share it.

    Parameters
    ----------
    names : sequence of str
        As in `load_extractor`.
    weights, like
        As in `load_extractor`, for the extractors of the Inception network, of which there must be one.
    resize : str, optional
        As in `load_extractor`, for all of them.

    Raises
    ------
    ImportError, ValueError, TypeError, FileNotFoundError
        As `load_extractor`.
    """
    names = require_sequence("names", names, str, least=1)
    optional(require_path, "weights", weights)
    if resize is not None:
        check_resize(resize)
    convention = convention_of("torch-fidelity" if like is None else like)
    if (weights or like) and not any(name in INCEPTION_OUTPUTS for name in names):
        option = "weights" if weights else "like"
        raise ValueError(f"{option} is an option of the extractor inception, not of {' and '.join(names)}")
    found: dict[str, Extractor] = {}
    for name in names:
        if name in found:
            continue
        if name in INCEPTION_OUTPUTS:
            found.update(inception_extractors(weights, convention))
        else:
            found[name] = efficientnet_lite0() if name == "efficientnet-lite0" else _from_factory(name)
    return [replace(found[name], resize=resize) if resize else found[name] for name in names]


def _from_factory(name: str) -> Extractor:
    """The extractor of a name "package.module:factory"."""
    module, colon, factory = name.partition(":")
    if not (module and colon and factory):
        choices = ", ".join([*INCEPTION_OUTPUTS, "efficientnet-lite0", "package.module:factory"])
        raise ValueError(f"unknown extractor {name!r}; choose one of {choices}")
    try:
        loaded = importlib.import_module(module)
        if not hasattr(loaded, factory):
            file = getattr(loaded, "__file__", None) or "built in"
            raise ValueError(f"extractor {name!r}: module {module!r} has no attribute {factory!r} (it is {file})")
        model = getattr(loaded, factory)()
    except ImportError as error:
        raise ImportError(f"extractor {name!r}: {error}") from error
    return as_extractor(model, name=getattr(model, "name", None) or name)


def open_extractor(extractor: Any, argument: str = "extractor") -> Extractor:
    """An extractor given by name, as an `Extractor`, or as anything that `as_extractor` accepts."""
    if isinstance(extractor, str):
        return load_extractor(extractor)
    if not (callable(extractor) or hasattr(extractor, "run")):
        found = type(extractor).__name__
        raise TypeError(f"{argument} must be a name, an Extractor, a network or another callable, got {found}")
    return as_extractor(extractor)


def open_extractors(extractors: Any, *, like: str | None = None) -> list[Extractor]:
    """Several extractors, each as in `open_extractor`; those given by name share networks as in `load_extractors`.

    Parameters
    ----------
    extractors : sequence
    like : str, optional
        As in `load_extractors`.
    """
    given = require_sequence("extractors", extractors, least=1)
    names = [one for one in given if isinstance(one, str)]
    if like is not None and not names:
        raise ValueError("like is an option of the extractor inception, but no extractor is given by name")
    loaded = iter(load_extractors(names, like=like) if names else [])
    return [
        next(loaded) if isinstance(one, str) else open_extractor(one, f"extractors[{number}]")
        for number, one in enumerate(given)
    ]


def name_of_extractor(extractor: Any) -> str | None:
    """The name that chooses among the statistics of a file: of an extractor given by name or as an `Extractor`."""
    if isinstance(extractor, str):
        return extractor
    return extractor.name if isinstance(extractor, Extractor) else None
