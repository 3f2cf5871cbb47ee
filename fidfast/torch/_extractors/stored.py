"""Extractors by the full name that statistics and features are stored with."""

from __future__ import annotations

import os
import sys

from fidfast.torch._extractors.conventions import LIKE
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.named import load_extractor
from fidfast.torch._extractors.resize import RESIZES

__all__ = ["load_stored_extractor"]


def load_stored_extractor(
    full_name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    like: str | None = None,
    resize: str | None = None,
) -> tuple[Extractor, str | None]:
    """Load the extractor that computed stored features.

    Parameters
    ----------
    full_name : str
        Name with resize and arithmetic, as in `Extractor.full_name`.
    weights, like, resize : optional
        As in `load_extractor`; `like` and `resize` override what the name says.

    Returns
    -------
    (Extractor, str or None)
        The extractor, and its dtype if the name specifies one.

    Raises
    ------
    ImportError, ValueError, TypeError, FileNotFoundError
        If the name is not sufficient to load the extractor, or as `load_extractor`.
    """
    name, *details = full_name.split("/")
    if name.startswith("inception-weights-") and weights is None:
        raise ValueError(f"{name} is the Inception network with other weights than those of 2015-12-05: pass weights")
    if name == "inception-2015-12-05" or name.startswith("inception-weights-"):
        name = "inception"
    if name.partition(":")[0].partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(f"unknown extractor {name!r}")  # a file must not call functions of the standard library
    if like is None:
        for detail in details:
            method = detail.rpartition("-")[0]
            if method in RESIZES:
                resize = resize or method
            elif method == "divisor":
                like = next((tool for tool, of_tool in LIKE.items() if detail == f"divisor-{of_tool.divisor}"), None)
    dtype = "bfloat16" if "bfloat16" in details else None
    return load_extractor(name, weights=weights, like=like, resize=resize), dtype
