"""Extractors by name."""

from __future__ import annotations

import difflib
import importlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fidfast._arguments import optional, require_path, require_sequence, require_text
from fidfast._network_table import NETWORKS, SHORT_NAMES
from fidfast._warnings import warn_user
from fidfast.torch._extractors.adapters import as_extractor
from fidfast.torch._extractors.conventions import convention_of
from fidfast.torch._extractors.efficientnet import efficientnet_lite0
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.inception import INCEPTION_OUTPUTS, find_file_of_inception, inception_extractors
from fidfast.torch._extractors.plugins import load_plugin, package_of_plugin, plugins
from fidfast.torch._extractors.pretrained import find_file, pretrained, require_package
from fidfast.torch._extractors.resize import check_resize

__all__ = [
    "BUILT_IN",
    "Weights",
    "extractor_names",
    "load_extractor",
    "load_extractors",
    "name_of_extractor",
    "open_extractor",
    "open_extractors",
]

#: Names of the extractors of this package.
BUILT_IN = (*INCEPTION_OUTPUTS, "efficientnet-lite0", *NETWORKS)

#: A weights file, or several by the name of their network.
Weights = str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]]


def extractor_names() -> list[str]:
    """Names that `load_extractor` accepts, beside "package.module:factory".

    Returns
    -------
    list of str
        The extractors of this package, then those of installed packages: the entry points of the group
        ``fidfast.extractors``.

    Examples
    --------
    >>> extractor_names()[:3]
    ['inception', 'inception-spatial', 'inception-logits']
    """
    return [*BUILT_IN, *(name for name in plugins() if name not in BUILT_IN)]


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
        Score), "efficientnet-lite0" (its weights are in a package, nothing is downloaded), a key of
        `fidfast.torch.NETWORKS` ("dinov2-vitl14", "clip-vit-l14-336" and others), the name of an extractor of an
        installed package (`extractor_names`) or "package.module:factory", a callable without arguments that returns a
        network or callable.
    weights : path, optional
        Weights file of the Inception network, or of the network in `NETWORKS`, which may be a ``.safetensors`` file or
        one of ``torch.save``. By default torch's cache is searched, then the file is downloaded.
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
        If the weights of the Inception network are not those of 2015-12-05: its name then contains their digest, and
        its distance is not called FID. If an installed package has an extractor with the name of one of this package,
        which is not used.
    """
    require_text("name", name)
    optional(require_path, "weights", weights)
    return load_extractors([name], weights=weights, like=like, resize=resize)[0]


def load_extractors(
    names: Sequence[str],
    *,
    weights: Weights | None = None,
    like: str | None = None,
    resize: str | None = None,
) -> list[Extractor]:
    """Load several extractors by name; those of the same network share it.

    Parameters
    ----------
    names : sequence of str
        As in `load_extractor`.
    weights : path or mapping, optional
        Files by the name of their network, for example ``{"inception": ..., "dinov2-vitl14": ...}``, also short
        as in the names of metrics ("dinov2"). A single file is that of the Inception network if there is one, else of
        the only network in `fidfast.torch.NETWORKS`.
    like : str, optional
        As in `load_extractor`, for the extractors of the Inception network, of which there must be one.
    resize : str, optional
        As in `load_extractor`, for all of them.

    Raises
    ------
    ImportError, ValueError, TypeError, FileNotFoundError
        As `load_extractor`.
    """
    names = require_sequence("names", names, str, least=1)
    files = _files_of_networks(names, weights)
    if resize is not None:
        check_resize(resize)
    convention = convention_of("torch-fidelity" if like is None else like)
    if like and not any(name in INCEPTION_OUTPUTS for name in names):
        raise ValueError(f"like is an option of the extractor inception, not of {' and '.join(names)}")
    files = _found_files(names, files)
    installed = plugins()
    found: dict[str, Extractor] = {}
    for name in names:
        if name in BUILT_IN and name in installed:
            packages = " and ".join(map(package_of_plugin, installed[name]))
            warn_user(
                f"the extractor {name!r} of the package {packages} is not used: fidfast has one of this name; to use "
                f"it, pass its factory, {installed[name][0].value!r}"
            )
        if name in found:
            continue
        if name in INCEPTION_OUTPUTS:
            found.update(inception_extractors(files.get("inception"), convention))
        elif name in NETWORKS:
            found[name] = pretrained(name, files.get(name))
        elif name == "efficientnet-lite0":
            found[name] = efficientnet_lite0()
        else:
            found[name] = load_plugin(name, installed[name]) if name in installed else _from_factory(name)
    return [replace(found[name], resize=resize) if resize else found[name] for name in names]


def _files_of_networks(names: Sequence[str], weights: Weights | None) -> dict[str, str]:
    """Weights files by the name of their network, "inception" for all extractors of the Inception network."""
    networks = {name: "inception" if name in INCEPTION_OUTPUTS else name for name in names}
    having = [name for name in dict.fromkeys(networks.values()) if name == "inception" or name in NETWORKS]
    if weights is None:
        return {}
    if not isinstance(weights, Mapping):
        require_path("weights", weights)
        if not having:
            raise ValueError(
                "weights is an option of the extractor inception and of pretrained networks, not of "
                + " and ".join(names)
            )
        if len(having) > 1 and "inception" not in having:
            raise ValueError(
                f"weights must be a file for each of {', '.join(having)}: {{name: file}} (--weights NAME=FILE), "
                "got one file"
            )
        return {"inception" if "inception" in having else having[0]: require_path("weights", weights)}
    files: dict[str, str] = {}
    for name, path in weights.items():
        network = SHORT_NAMES.get(name, name)
        if network not in having:
            raise ValueError(f"weights has a file of {name!r}; the networks are {', '.join(having) or 'none'}")
        if network in files:
            raise ValueError(f"weights has two files of {network}: {files[network]} and {path}; pass one")
        files[network] = require_path(f"weights[{name!r}]", path)
    return files


def _found_files(names: Sequence[str], files: Mapping[str, str]) -> dict[str, str]:
    """The weights files of several networks, downloaded where none is given; of one network as given.

    Raises
    ------
    FileNotFoundError
        If some are missing; the message says what to do about each.
    """
    networks = dict.fromkeys("inception" if name in INCEPTION_OUTPUTS else name for name in names)
    having = [network for network in networks if network == "inception" or network in NETWORKS]
    if len(having) < 2:
        return dict(files)
    found: dict[str, str] = {}
    errors: list[FileNotFoundError] = []
    for network in having:
        try:
            if network == "inception":
                found[network] = str(find_file_of_inception(files.get(network)))
            else:
                require_package(network)
                found[network] = str(find_file(network, NETWORKS[network], files.get(network)))
        except FileNotFoundError as error:
            errors.append(error)
    if len(errors) > 1:
        each = "; ".join(f"({number}) {error}" for number, error in enumerate(errors, 1))
        raise FileNotFoundError(f"the weights of {len(errors)} networks are missing: {each}") from errors[0]
    if errors:
        raise errors[0]
    return found


def _from_factory(name: str) -> Extractor:
    """The extractor of a name "package.module:factory"."""
    module, colon, factory = name.partition(":")
    if not (module and colon and factory):
        names = {re.sub("[-_. ]+", "-", known).lower(): known for known in extractor_names()}
        similar = difflib.get_close_matches(re.sub("[-_. ]+", "-", name).lower(), names, n=1, cutoff=0.8)
        hint = f"did you mean {names[similar[0]]!r}? Choose" if similar else "choose"
        choices = ", ".join([*extractor_names(), "package.module:factory"])
        raise ValueError(f"unknown extractor {name!r}; {hint} one of {choices}")
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
