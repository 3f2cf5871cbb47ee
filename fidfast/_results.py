"""Base class of all results, and formatting of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from html import escape
from typing import Any, ClassVar

import numpy as np

__all__ = [
    "Result",
    "decimals",
    "digits_of_error",
    "distance_label",
    "distance_text",
    "is_inception",
    "json_object",
    "kernel_label",
    "rounding_text",
    "too_few_samples",
    "value_with_error",
]


class Result:
    """Base of the frozen dataclasses that the metrics return.

    A result unpacks like a tuple of its fields, except those that are keyword-only, converts to a dictionary of plain
    values, and shows itself as a table in a notebook.
    """

    #: Properties that `to_dict` includes besides the fields.
    _properties: ClassVar[tuple[str, ...]] = ()

    def __iter__(self) -> Iterator[Any]:
        every = fields(self)  # type: ignore[arg-type]  # of a dataclass
        return (getattr(self, field.name) for field in every if not field.kw_only)

    def to_dict(self) -> dict[str, Any]:
        """Fields and derived numbers by name, in JSON types; None for NaN and infinity.

        Keyword-only fields are remarks, which are included if they are neither None nor 0.
        """
        every = fields(self)  # type: ignore[arg-type]
        remarks = [field.name for field in every if field.kw_only and getattr(self, field.name)]
        names = [field.name for field in every if not field.kw_only]
        return json_object({name: getattr(self, name) for name in (*names, *self._properties, *remarks)})

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{escape(_short(value))}</td></tr>'
            for name, value in self.to_dict().items()
        )
        style = "table.fidfast th, table.fidfast td { text-align: left }"
        return f'<style>{style}</style><table class="fidfast"><caption>{escape(str(self))}</caption>{rows}</table>'


def json_object(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name in JSON types; None for NaN and infinity, which JSON lacks."""
    return {str(key): _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, Mapping):
        return json_object(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _short(value: Any) -> str:
    """A cell of the table."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        shown = ", ".join(_short(item) for item in value[:4])
        return shown if len(value) <= 4 else f"{shown}, ... ({len(value):,} values)"
    if isinstance(value, dict):
        shown = ", ".join(f"{key}: {_short(item)}" for key, item in list(value.items())[:4])
        return shown if len(value) <= 4 else f"{shown}, ... ({len(value):,} entries)"
    return "unknown" if value is None else str(value)


def decimals(stderr: float) -> int:
    """Number of decimals that shows two digits of the standard error."""
    return max(0, 1 - math.floor(math.log10(stderr))) if stderr > 0 and math.isfinite(stderr) else 6


def value_with_error(value: float, stderr: float) -> str:
    """``12.34 ± 0.08``: both numbers with two digits of the error."""
    return f"{digits_of_error(value, stderr)} ± {digits_of_error(stderr, stderr)}"


def digits_of_error(value: float, stderr: float, sign: str = "-") -> str:
    """The value with two digits of its standard error, at most 16; with an exponent if that is very small or large.

    `sign` is as in format specifications: "+" for both signs.
    """
    if not (math.isfinite(value) and math.isfinite(stderr)) or stderr == 0:
        return f"{value:{sign}.{decimals(stderr)}f}"
    order, of_error = (math.floor(math.log10(number)) for number in (max(abs(value), stderr), stderr))
    if not 1e-9 <= stderr < 1e7 or order > 15:
        return f"{value:{sign}.{min(order - of_error + 1, 15)}e}"
    return f"{value:{sign}.{min(decimals(stderr), 15 - order)}f}"


def too_few_samples(dim: int, *num_samples: int | None) -> str | None:
    """Why a Fréchet distance means little if a side has at most `dim` samples, else None.

    The covariance of n samples has rank n - 1 at most. In the other directions the samples seem not to vary, and the
    complete variance of the other side counts as distance. `estimate` needs 2 samples per dimension.
    """
    fewest = min((n for n in num_samples if n is not None), default=None)
    if fewest is None or fewest > dim:
        return None
    return (
        f"{fewest:,} samples in dim {dim} are too few: most of this distance may be bias; use kid, which has none, or "
        f"at least {2 * dim + 1:,} samples"
    )


def distance_text(distance: float, few: bool) -> str:
    """A Fréchet distance with 8 digits, or with 3 if there are too few samples."""
    return f"{float(f'{distance:.3g}'):g}" if few else f"{distance:.8g}"


def rounding_text(rounding: float) -> str:
    """The bound on the rounding error in words."""
    return f"rounding error at most {rounding:.1g}"


def is_inception(extractor: str | None) -> bool:
    """Whether this is the network whose Fréchet distance is called FID, with any resize."""
    return extractor is not None and extractor.split("/")[0] in ("inception", "inception-2015-12-05")


def distance_label(*extractors: str | None) -> str:
    """Return "FID" or "sFID" if all extractors are the 2015 Inception network, else "Fréchet distance".

    With other weights the distance of its features with positions is a "spatial Fréchet distance".
    """
    if all(map(is_inception, extractors)):
        return "FID"
    networks = {(extractor or "").split("/")[0] for extractor in extractors}
    if networks == {"inception-spatial"}:
        return "sFID"
    are_spatial = all(network.partition("-weights-")[0] == "inception-spatial" for network in networks)
    return "spatial Fréchet distance" if are_spatial else "Fréchet distance"


def kernel_label(*extractors: str | None) -> str:
    """Return "KID" if all extractors are the 2015 Inception network, else "kernel distance (KID formula)"."""
    return "KID" if all(map(is_inception, extractors)) else "kernel distance (KID formula)"
