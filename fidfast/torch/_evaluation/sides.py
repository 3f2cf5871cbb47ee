"""What the arguments of `evaluate` hold, and from which of it each metric is computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fidfast._arguments import require_path, shape_of_array
from fidfast._files import catalog_of, is_supported
from fidfast._images import holds_images
from fidfast._inputs import Input, open_input
from fidfast._stats import GaussianStats, Moments
from fidfast.torch._evaluation.metrics import Settings
from fidfast.torch._evaluation.names import Request, network_of
from fidfast.torch._images.checks import is_source_of_images
from fidfast.torch._images.extraction import ImageFeatures, ImageMoments

__all__ = ["Part", "Plan", "Side", "open_side", "plan_of"]

#: Values of a dictionary by names of extractors, such as `stats_by_extractor` returns.
_NAMED = (GaussianStats, Moments, ImageMoments, ImageFeatures)

#: The network whose statistics have no name in the files of other tools.
_USUAL = "inception"


@dataclass(frozen=True, eq=False)
class Part:
    """Statistics, moments or features that an argument holds, of one extractor."""

    #: "statistics" or "features"; moments are statistics.
    what: str
    #: Full name of the extractor, or None if it is unknown.
    extractor: str | None
    open: Callable[[], Input]
    #: Whether it is used if other parts have no name either.
    is_main: bool = True
    num_samples: int | None = None
    #: What ``key=`` selects it with in a file.
    key: str = ""

    @property
    def has_rows(self) -> bool:
        return self.what == "features"


class Side:
    """One argument of `evaluate`.

    Parameters
    ----------
    name : str
        Name of the argument.
    title : str
        Path or type of the argument, for messages.
    parts : sequence of Part
    images : object, optional
        The images, for `open_source`; None if there are none.
    """

    def __init__(self, name: str, title: str, parts: Sequence[Part], images: Any = None) -> None:
        self.name = name
        self.title = title
        self.parts = parts
        self.images = images
        self._of_unnamed: str | None = None
        self._stored_as: Mapping[str, str] = {}

    @property
    def networks(self) -> set[str]:
        """The networks whose names the parts have."""
        return {network_of(part.extractor) for part in self.parts if part.extractor is not None}

    def assign(self, extractors: Sequence[str], stored_as: Mapping[str, str]) -> None:
        """Decide of which of these extractors the parts are that have no name, or another name of `stored_as`."""
        named, self._stored_as = self.networks, stored_as
        missing = [name for name in extractors if named.isdisjoint((name, stored_as.get(name)))]
        if self.images is not None or named or _USUAL in missing or not missing:
            self._of_unnamed = _USUAL
        else:
            self._of_unnamed = missing[0]

    def part(self, extractor: str, what: str) -> Part | None:
        """The statistics or features of an extractor, or None."""
        parts = [part for part in self.parts if part.what == what]
        names = extractor, self._stored_as.get(extractor)
        found = [part for part in parts if part.extractor is not None and network_of(part.extractor) in names]
        if not found and extractor == self._of_unnamed:
            unnamed = [part for part in parts if part.extractor is None]
            found = [part for part in unnamed if part.is_main] if len(unnamed) > 1 else unnamed
        return found[0] if found else None

    @property
    def ambiguous(self) -> list[Part]:
        """Several statistics or features without a name, of which none is the first choice."""
        unnamed = [part for part in self.parts if part.extractor is None]
        return unnamed if len(unnamed) > 1 and not any(part.is_main for part in unnamed) else []

    @property
    def held(self) -> str:
        """What the argument holds, in words: "statistics of inception and inception-spatial, and images"."""
        names: dict[str, list[str]] = {}
        for part in self.parts:
            unknown = f"an unknown extractor ({part.key!r})" if part in self.ambiguous else "an unknown extractor"
            names.setdefault(part.what, []).append(part.extractor or unknown)
        texts = [f"{what} of {' and '.join(dict.fromkeys(of))}" for what, of in names.items()]
        if self.images is not None:
            texts.append("and images" if texts else "images")
        return ", ".join(texts) or "nothing"

    @property
    def kinds(self) -> set[str]:
        """The kinds of what it holds: "statistics", "features", "images"."""
        return {part.what for part in self.parts} | ({"images"} if self.images is not None else set())


def open_side(source: Any, name: str, precision: str, negative_tolerance: float) -> Side:
    """What an argument holds; images are opened later, if a metric needs them.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If it cannot be used; the message names the argument.
    """

    def opened(key: str | None = None, rows: bool = False) -> Input:
        return open_input(
            source, name, precision=precision, key=key, rows=rows, negative_tolerance=negative_tolerance
        )  # fmt: skip

    if source is None:
        return Side(name, "None", [])
    if not isinstance(source, (str, os.PathLike)):
        title = type(source).__name__
        if _is_by_extractor(source):
            return Side(name, title, [_part_of(open_input(one, name, extractor=key)) for key, one in source.items()])
        if is_source_of_images(source):
            return Side(name, title, [], source)
        return Side(name, title, [_part_of(opened())])
    path = require_path(name, source)
    if not is_supported(path):
        return Side(name, path, [], source)
    images = source if holds_images(path) else None
    catalog = catalog_of(path)
    if catalog.is_state:
        return Side(name, path, [_part_of(opened())])
    items = [*catalog.of_kind("statistics"), *catalog.of_kind("features")]
    if not items and images is None:
        return Side(name, path, [_part_of(opened())])  # raises the error
    parts = []
    for item in items:
        is_features = item.what == "features"

        def open_item(key: str | None = item.key or None, is_features: bool = is_features) -> Input:
            return opened(key, rows=is_features)

        count = item.entry.shape[0] if is_features and item.entry.shape else None
        parts.append(Part(item.what, item.extractor, open_item, item.is_main, count, item.key))
    return Side(name, path, parts, images)


def _is_by_extractor(source: Any) -> bool:
    """Whether an argument is a dictionary by names of extractors."""
    return (
        isinstance(source, Mapping)
        and len(source) > 0
        and all(isinstance(name, str) and isinstance(one, _NAMED) for name, one in source.items())
    )


def _part_of(opened: Input) -> Part:
    """The part of an argument that holds nothing else."""
    if opened.rows is not None:
        shape = shape_of_array(opened.rows)
        return Part("features", opened.extractor, lambda: opened, num_samples=shape[0] if shape else None)
    return Part("statistics", opened.extractor, lambda: opened, num_samples=opened.num_samples)


@dataclass
class Plan:
    """From what each metric is computed, for one side.

    All by name of the extractor and what is needed of it: "moments", "rows" or "logits".
    """

    side: Side
    #: Needs of the images.
    of_images: list[tuple[str, str]] = field(default_factory=list)
    of_parts: dict[tuple[str, str], Part] = field(default_factory=dict)
    #: The metrics that each of them serves.
    metrics: dict[tuple[str, str], list[Request]] = field(default_factory=dict)

    def add(self, request: Request, extractor: str, what: str, *, prefer_rows: bool) -> str | None:
        """Choose the source of what a metric needs; return why that is impossible, or None."""
        key = extractor, what
        self.metrics.setdefault(key, []).append(request)
        if key in self.of_parts or key in self.of_images:
            return None
        features, statistics = self.side.part(extractor, "features"), self.side.part(extractor, "statistics")
        if what != "moments":
            statistics = None
        before_images, after_images = (features, statistics) if prefer_rows else (statistics or features, None)
        part = before_images or (None if self.side.images is not None else after_images)
        if part is not None:
            self.of_parts[key] = part
        elif self.side.images is not None:
            self.of_images.append(key)
        else:
            return self._why_not(request, extractor, what)
        return None

    def _why_not(self, request: Request, extractor: str, what: str) -> str:
        side = self.side
        kinds = {"moments": "statistics or features", "rows": "features", "logits": "features (the logits)"}
        needed = f"images, or {kinds[what]} of {extractor}"
        if not side.kinds:
            return f"{request.name} needs {needed}, as {side.name}, which is not given: pass one of these"
        choose = "pass one of these"
        if side.ambiguous:
            choose += f", or choose one with `fidfast stats {side.title} OUT --key {side.ambiguous[0].key}`"
        return f"{request.name} needs {needed}, as {side.name}, but {side.title} holds {side.held}: {choose}"

    @property
    def extractors(self) -> list[str]:
        """Names of the extractors that run on the images of this side."""
        return list(dict.fromkeys(extractor for extractor, _ in self.of_images))

    def notes(self, labels: Mapping[str, str]) -> list[str]:
        """What was used of an argument that holds several things; `labels` are the names of the metrics in tables."""
        if len(self.side.kinds) < 2:
            return []
        used: dict[str, list[str]] = {}
        for key, requests in self.metrics.items():
            what = self.of_parts[key].what if key in self.of_parts else "images"
            used.setdefault(what, []).extend(labels[request.name] for request in requests)
        texts = [f"its {what} for {', '.join(dict.fromkeys(names))}" for what, names in used.items()]
        return [f"{self.side.name}: {self.side.title} holds {self.side.held}; used: {'; '.join(texts)}"]


def plan_of(
    requests: Sequence[Request], sides: tuple[Side, Side], settings: Settings, stored_as: Mapping[str, str]
) -> tuple[Plan, Plan]:
    """From what each metric is computed; `stored_as` has the names of extractors in files, where they are others.

    Statistics have precedence over features, and features over images; of the samples, rows have precedence if
    standard errors are estimated from them.

    Raises
    ------
    ValueError
        If an argument does not hold what a metric needs.
    """
    plans = Plan(sides[0]), Plan(sides[1])
    reasons: dict[str, str] = {}
    for plan, attribute in zip(plans, ("samples", "reference"), strict=True):
        needed = [request for request in requests if getattr(request.metric, attribute) is not None]
        plan.side.assign([extractor for request in needed for extractor in request.extractors], stored_as)
        for request in needed:
            what = getattr(request.metric, attribute)
            for extractor in request.extractors:
                reason = plan.add(request, extractor, what, prefer_rows=settings.estimate and attribute == "samples")
                if reason is not None:
                    reasons.setdefault(request.name, reason)
    if reasons:
        possible = ",".join(request.name for request in requests if request.name not in reasons)
        raise ValueError(f"{next(iter(reasons.values()))}{f', or metrics={possible!r}' if possible else ''}")
    return plans
