"""The extractors that an evaluation runs, and whether they fit what the other side holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fidfast._inputs import Input, require_same_dim
from fidfast.torch._evaluation.sides import Plan, Side
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.inception import INCEPTION_OUTPUTS
from fidfast.torch._extractors.named import BUILT_IN, extractor_names, load_extractors, open_extractor
from fidfast.torch._extractors.stored import with_details
from fidfast.torch._images.options import ImageOptions

__all__ = ["load_networks", "open_own", "require_fitting"]


def open_own(names: Sequence[str], sides: Sequence[Side], given: Mapping[str, Any]) -> dict[str, Extractor]:
    """Extractors of the caller under whose names nothing is stored: files have the names that they give themselves.

    Parameters
    ----------
    names : sequence of str
        Names of the extractors of all metrics.
    sides : sequence of Side
    given : mapping
        The argument `extractors` of `evaluate`.
    """
    stored = set().union(*(side.networks for side in sides))
    missing = [name for name in dict.fromkeys(names) if stored and name not in stored]
    loadable = [*given, *(name for name in missing if ":" in name), *(set(extractor_names()) - set(BUILT_IN))]
    return {name: open_extractor(given.get(name, name)) for name in missing if name in loadable}


def load_networks(
    plans: Sequence[Plan],
    given: Mapping[str, Any],
    *,
    own: Mapping[str, Extractor],
    weights: Any,
    like: str | None,
    resize: str | None,
    options: ImageOptions,
) -> tuple[dict[str, Extractor], ImageOptions]:
    """The extractors that run on images, by name, and the options with the arithmetic of the networks.

    Without `like` and `resize` they have the resize and arithmetic of the statistics on the other side.
    """
    names = list(dict.fromkeys(name for plan in plans for name in plan.extractors))
    loaded: dict[str, Extractor] = {name: open_extractor(given[name]) for name in names if name in given}
    by_name = [name for name in names if name not in given]
    loaded.update({name: replace(own[name], resize=resize or own[name].resize) for name in by_name if name in own})
    not_loaded = [name for name in by_name if name not in own]
    if not_loaded:
        usual = any(name in INCEPTION_OUTPUTS for name in by_name)
        try:
            found = load_extractors(not_loaded, weights=weights, like=like if usual else None, resize=resize)
        except ModuleNotFoundError as error:
            if error.name != "torch_fidelity":
                raise
            raise ImportError(
                f"the extractor inception needs torch-fidelity: pip install 'fidfast[images]' ({error})"
            ) from error
        loaded.update(zip(not_loaded, found, strict=True))
    if like is None and resize is None:
        stored = _stored_names(plans)
        for name in by_name:
            if name in stored:
                loaded[name] = with_details(loaded[name], stored[name])
        if options.dtype is None and any("bfloat16" in stored[name].split("/") for name in by_name if name in stored):
            options = replace(options, dtype="bfloat16")
    return loaded, options


def _stored_names(plans: Sequence[Plan]) -> dict[str, str]:
    """Full names with details of what the sides hold: of each extractor, and of one Inception output for all three."""
    stored: dict[str, str] = {}
    for plan in plans:
        for (name, _), part in plan.of_parts.items():
            if part.extractor is not None and "/" in part.extractor:
                stored.setdefault(name, part.extractor)
    of_inception = next((stored[name] for name in INCEPTION_OUTPUTS if name in stored), None)
    if of_inception is not None:
        stored = {**dict.fromkeys(INCEPTION_OUTPUTS, of_inception), **stored}
    return stored


def require_fitting(
    name: str, sides: Sequence[Input | None], extractor: Extractor | None, options: ImageOptions
) -> tuple[str | None, ...]:
    """Check that both sides of a metric have the same number of features.

    Parameters
    ----------
    name : str
        Name of the extractor.
    sides : sequence of Input or None
        None for images.
    extractor : Extractor or None
        That of the images.
    options : ImageOptions

    Returns
    -------
    tuple of str or None
        Full names of the extractors of the sides.
    """
    inputs = [side for side in sides if side is not None]
    if len(inputs) == 2:
        require_same_dim(dim_of(inputs[0]), dim_of(inputs[1]), inputs[0].name, inputs[1].name)
    if extractor is None or len(inputs) == len(sides):
        return tuple(side.extractor for side in inputs)
    for side in inputs:
        if extractor.num_features not in (None, dim_of(side)):
            raise ValueError(
                f"{side.name} has dim {dim_of(side)}, but the extractor {name} has dim {extractor.num_features}: pass "
                f"images or the statistics or features of {name} as {side.name}"
            )
    of_images = replace(extractor, dtype=options.dtype or extractor.dtype).full_name
    return tuple(of_images if side is None else side.extractor for side in sides)


def dim_of(side: Input) -> int:
    """Number of columns, without computing moments of rows."""
    return side.dim if side.rows is None else side.finite_shape()[1]
