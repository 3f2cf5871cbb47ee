"""Extractors by the full names that are stored with statistics."""

from __future__ import annotations

from dataclasses import replace

from fidfast.torch._extractors.conventions import LIKE
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.named import Weights, extractor_names, load_extractors
from fidfast.torch._extractors.resize import RESIZES

__all__ = ["extractor_of_statistics", "with_details"]

#: Names for `load_extractor` by other stored names.
_RENAMED = {"inception-2015-12-05": "inception"}


def extractor_of_statistics(full_name: str, argument: str, *, weights: Weights | None = None) -> tuple[Extractor, str]:
    """The extractor that computed stored statistics, and its arithmetic.

    Parameters
    ----------
    full_name : str
        As `Extractor.full_name`, or only the name of the network.
    argument : str
        Name of the argument with the statistics, for messages.
    weights : path or mapping, optional
        As in `load_extractors`. Then the weights may be others than those of the statistics.

    Returns
    -------
    Extractor
        Not prepared.
    str
        "float32" or "bfloat16".

    Raises
    ------
    ValueError
        If `load_extractor` loads no extractor by this name, or loads one with other weights or another arithmetic.
    """
    name, *details = full_name.split("/")
    network, of_weights, _ = name.partition("-weights-")
    known = _RENAMED.get(name, network if of_weights else name)
    computed = f"the statistics of {argument} were computed with the extractor {full_name!r}"
    if known not in extractor_names():  # a file must not choose other modules to import
        factory = name if ":" in name else "package.module:factory"
        raise ValueError(f"{computed}, which cannot be loaded by name: pass the extractor (--extractor {factory})")
    dtype = "bfloat16" if "bfloat16" in details else "float32"
    extractor = with_details(load_extractors([known], weights=weights)[0], full_name)
    found = replace(extractor, dtype=dtype).full_name
    stored = "/".join([_RENAMED.get(name, name), *details])
    # A name alone may be assumed for the file of another tool: if the weights are others, a warning is given later.
    is_exact = bool(details or of_weights)
    if weights is None and is_exact and stored != (found if details else found.partition("/")[0]):
        raise ValueError(
            f"{computed}, but the one that is loaded by name is {found!r}: pass the weights of the statistics "
            f"(--weights FILE), or the extractor (--extractor {known}) to compare with other weights"
        )
    return extractor, dtype


def with_details(extractor: Extractor, full_name: str) -> Extractor:
    """The extractor with the resize and the pixel range in a full name."""
    for detail in full_name.split("/")[1:]:
        extractor = _with_detail(extractor, detail)
    return extractor


def _with_detail(extractor: Extractor, detail: str) -> Extractor:
    """The extractor with one part of a full name; unchanged if the part has another meaning."""
    method, _, size = detail.rpartition("-")
    if method in RESIZES:
        sides = [int(side) for side in size.split("x") if side.isdecimal()]
        if len(sides) in (1, 2):
            return replace(extractor, resize=method, input_size=(sides[0], sides[-1]))
    for convention in LIKE.values():
        if detail == f"divisor-{convention.divisor}":
            values = (convention.offset,) * 3, (convention.divisor,) * 3
            return replace(extractor, offset=values[0], divisor=values[1], variant=detail)
    return extractor
