"""The keyword arguments of torch-fidelity's ``calculate_metrics``: default values and checks."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any

from fidfast._arguments import (
    MAX_SEED,
    optional,
    require_bool,
    require_choice,
    require_integer,
    require_path,
    require_real,
    require_text,
)
from fidfast._warnings import warn_user

__all__ = ["checked_keywords"]

#: Names of torch-fidelity before version 0.4, and their present names.
_FORMER = {
    "kid_degree": "kid_kernel_poly_degree",
    "kid_gamma": "kid_kernel_poly_gamma",
    "kid_coef0": "kid_kernel_poly_coef0",
}

_Check = Callable[[str, Any], Any]


def _unchecked(_name: str, value: Any) -> Any:
    return value


def _integer(least: int, most: int = 2**31) -> _Check:
    return lambda name, value: require_integer(name, value, least, most)


def _choice(*choices: str | None) -> _Check:
    return lambda name, value: require_choice(name, value, choices)


def _or_none(check: _Check) -> _Check:
    return functools.partial(optional, check)


_TEXT, _PATH = _or_none(require_text), _or_none(require_path)

#: Default value and check of each keyword. Those of the perceptual path length are not checked, since it is refused.
_KEYWORDS: dict[str, tuple[Any, _Check]] = {
    "input1": (None, _unchecked),
    "input2": (None, _unchecked),
    "cuda": (True, require_bool),
    "batch_size": (None, _or_none(_integer(1))),
    **dict.fromkeys(("isc", "fid", "kid", "prc", "ppl"), (False, require_bool)),
    **{f"feature_layer_{name}": (None, _TEXT) for name in ("isc", "fid", "kid", "prc")},
    "feature_extractor": (None, _TEXT),
    "feature_extractor_weights_path": (None, _PATH),
    "feature_extractor_internal_dtype": (None, _choice(None, "float32", "float64")),
    "feature_extractor_compile": (False, require_bool),
    "isc_splits": (10, _integer(1)),
    "kid_subsets": (100, _integer(1, 1_000_000)),
    "kid_subset_size": (1000, _integer(2)),
    "kid_kernel": ("poly", _choice("poly", "rbf")),
    "kid_kernel_poly_degree": (3, _integer(1, 100)),
    "kid_kernel_poly_gamma": (None, _or_none(require_real)),
    "kid_kernel_poly_coef0": (1.0, require_real),
    "kid_kernel_rbf_sigma": (10.0, require_real),
    **{
        f"ppl_{name}": (None, _unchecked)
        for name in (
            "epsilon", "reduction", "sample_similarity", "sample_similarity_resize", "sample_similarity_dtype",
            "discard_percentile_lower", "discard_percentile_higher", "z_interp_mode",
        )
    },
    "prc_neighborhood": (3, _integer(1)),
    "prc_batch_size": (10000, _integer(1)),
    "samples_shuffle": (True, require_bool),
    "samples_find_deep": (False, require_bool),
    "samples_find_ext": ("png,jpg,jpeg", require_text),
    "samples_ext_lossy": ("jpg,jpeg", _TEXT),
    "samples_resize_and_crop": (0, _integer(0, 2**24)),
    "datasets_root": (None, _PATH),
    "datasets_download": (True, require_bool),
    "cache_root": (None, _PATH),
    "cache": (True, require_bool),
    **{
        f"input{i}_{name}": (default, check)
        for i in (1, 2)
        for name, default, check in (
            ("cache_name", None, _TEXT),
            ("model_z_type", "normal", require_text),
            ("model_z_size", None, _or_none(_integer(1))),
            ("model_num_classes", 0, _integer(0)),
            ("model_num_samples", None, _or_none(_integer(1, 2**62))),
        )
    },
    "rng_seed": (2020, _integer(0, MAX_SEED)),
    "save_cpu_ram": (False, require_bool),
    "verbose": (True, require_bool),
    "fid_statistics_file": (None, _PATH),
}  # fmt: skip


def checked_keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every keyword with its checked value or its default.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown, a value is invalid, or what it asks for is not available.

    Warns
    -----
    FutureWarning
        If a former name is used, as torch-fidelity does.
    """
    named: dict[str, Any] = {}
    for name, value in given.items():
        if name in _FORMER:
            warn_user(f"{name} is now called {_FORMER[name]}", FutureWarning)
        elif name not in _KEYWORDS:
            similar = difflib.get_close_matches(name, _KEYWORDS, n=1)
            hint = f"; did you mean {similar[0]!r}?" if similar else ""
            raise TypeError(f"calculate_metrics got an unexpected keyword argument {name!r}{hint}")
        named[_FORMER.get(name, name)] = value
    values = {
        name: check(name, named[name]) if name in named else default for name, (default, check) in _KEYWORDS.items()
    }
    if values["ppl"]:
        raise ValueError("ppl=True is not available: fidfast does not compute the perceptual path length")
    if values["kid"] and values["kid_kernel"] == "rbf":
        raise ValueError(
            "kid_kernel='rbf' is not available: fidfast.cmmd computes the distance with a Gaussian kernel, over all "
            "pairs of rows instead of subsets"
        )
    if not any(values[name] for name in ("isc", "fid", "kid", "prc")):
        raise ValueError("at least one of isc, fid, kid and prc must be True")
    if values["input1"] is None:
        raise ValueError("input1 is required")
    needing = [name for name in ("kid", "prc") if values[name]]
    needing += ["fid"] if values["fid"] and values["fid_statistics_file"] is None else []
    if values["input2"] is None and needing:
        raise ValueError(f"input2 is required for {', '.join(needing)}")
    if not any(part.strip() for part in values["samples_find_ext"].split(",")):
        raise ValueError(f"samples_find_ext must list file extensions, got {values['samples_find_ext']!r}")
    return values
