"""Opens the images of an evaluation, loads its extractors, and collects what the metrics need of both sides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from fidfast._files import npz_path
from fidfast._inputs import Input, warn_of_extractors
from fidfast.torch._evaluation.metrics import Pair, Settings, collects_score, new_score
from fidfast.torch._evaluation.networks import load_networks, require_fitting
from fidfast.torch._evaluation.sides import Plan
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._images.checkpoint import Checkpoint, check_checkpoint, removed_after
from fidfast.torch._images.checks import first_image, open_images_of, prepared_for, require_order
from fidfast.torch._images.collection import Collection, Need, collect_of_source
from fidfast.torch._images.options import ImageOptions, processes_of, with_label
from fidfast.torch._images.sources import ImageSource

__all__ = ["Collector"]

_Key = tuple[str, str]


class Collector:
    """Collects what the plans say.

    The constructor and `load` raise every error that can be found before a network runs.

    Parameters
    ----------
    plans : (Plan, Plan)
        Of samples and reference.
    settings : Settings
    options : ImageOptions
    """

    def __init__(self, plans: tuple[Plan, Plan], settings: Settings, options: ImageOptions) -> None:
        self._plans = plans
        self._settings = settings
        self._options = options
        self._checkpoints = [_checkpoint_of(plan, options) for plan in plans]
        #: For each side what the metrics need of it: `Input`, or `InceptionScore`.
        self._inputs: list[dict[_Key, Any]] = [
            {key: part.open() for key, part in plan.of_parts.items()} for plan in plans
        ]
        for side, plan in enumerate(plans):
            for key, part in plan.of_parts.items():
                self._require_number(side, key, part.num_samples)
        self._require_sampled()
        self._sources = [self._open_images(side) for side in range(2)]
        self._extractors: dict[str, Extractor] = {}
        self._collections: dict[str, Collection] = {}
        #: For each side, full names of the extractors that ran on images.
        self._names: list[dict[str, str]] = [{}, {}]

    def _least(self, side: int, key: _Key) -> int:
        return max(request.metric.least(self._settings)[side] for request in self._plans[side].metrics[key])

    def _require_number(self, side: int, key: _Key, count: int | None) -> None:
        """Raise ValueError if a side has fewer samples than a metric needs."""
        for request in self._plans[side].metrics[key]:
            least = request.metric.least(self._settings)[side]
            if count is not None and count < least:
                name, like = self._plans[side].side.name, self._settings.like
                raise ValueError(
                    f"{request.name} needs at least {least:,} samples{f' like {like}' if like else ''}; {name} has "
                    f"{count:,}: pass more, or leave {request.name} out of metrics"
                )

    def _require_sampled(self) -> None:
        """Raise ValueError if an error is asked for of two sides without rows or blocks."""
        if not self._settings.estimate:
            return
        for key, requests in self._plans[0].metrics.items():
            sides = [inputs.get(key) for inputs in self._inputs]
            if key[1] == "moments" and not any(side is None or side.has_samples for side in sides):
                raise ValueError(
                    f"{requests[0].name}: estimate=True needs images, features, or Moments(dim, blocks=20) as samples "
                    "or reference, but both are statistics: pass one of these, or estimate=False"
                )

    def _open_images(self, side: int) -> ImageSource | None:
        plan, options = self._plans[side], self._options
        if not plan.of_images:
            return None
        source = open_images_of(plan.side.images, plan.side.name, options, 1)
        require_order(source, plan.side.name, replace(options, checkpoint=self._checkpoints[side]))
        first_image(source, plan.side.name, options)
        count = source.length
        if count is None:  # at least the first images of a stream can be counted
            try:
                source.read(max(self._least(side, key) for key in plan.of_images) - 1)
            except IndexError:
                count = sum(1 for _ in source.stream())
        for key in plan.of_images:
            self._require_number(side, key, count)
        return source

    def load(self, given: Mapping[str, Any], *, own: Mapping[str, Extractor], weights: Any, resize: str | None) -> None:
        """Load the extractors that run on images, and check that they fit the other side."""
        with processes_of(self._options) as ranks, ranks.after_first_of_machine():
            self._extractors, self._options = load_networks(
                self._plans, given, own=own, weights=weights, like=self._settings.like, resize=resize,
                options=self._options,
            )  # fmt: skip
        pairs: dict[tuple[str | None, ...], None] = {}
        for key in dict.fromkeys([*self._plans[0].metrics, *self._plans[1].metrics]):
            sides = [
                inputs.get(key) for inputs, plan in zip(self._inputs, self._plans, strict=True) if key in plan.metrics
            ]
            names = require_fitting(key[0], sides, self._extractors.get(key[0]), self._options)
            pairs.setdefault(names)
        for names in pairs:
            if len(names) == 2:
                warn_of_extractors(*(Input("", extractor=name) for name in names))
        used = list(self._extractors.values())
        if not used or (self._options.use_cache and all(one.reproducible for one in used)):
            return  # not prepared, since the moments may be in the cache
        lengths = [source.length for source in self._sources if source is not None]
        total = None if None in lengths else sum(filter(None, lengths))
        prepared, self._options = prepared_for(used, total, self._options)
        self._extractors = dict(zip(self._extractors, prepared, strict=True))

    @contextmanager
    def collected(self) -> Iterator[dict[_Key, Pair]]:
        """What the metrics need of both sides; the checkpoints are removed after the block."""
        with ExitStack() as stack:
            for side, source in enumerate(self._sources):
                if source is None:
                    continue
                checkpoint = self._collect(side, source)
                stack.enter_context(removed_after(checkpoint))
                if checkpoint is not None and side == 0 and self._sources[1] is not None:
                    checkpoint.save_finished()  # the other side takes as long, and may be killed
            keys = dict.fromkeys([*self._plans[0].metrics, *self._plans[1].metrics])
            one, two = self._inputs
            yield {key: Pair(one.get(key), two.get(key), self._names_of(key)) for key in keys}

    def _names_of(self, key: _Key) -> tuple[str | None, str | None]:
        """Full names of the extractors of both sides."""
        one, two = (
            names.get(key[0]) if key in plan.of_images else getattr(inputs.get(key), "extractor", None)
            for names, plan, inputs in zip(self._names, self._plans, self._inputs, strict=True)
        )
        return one, two

    def _collect(self, side: int, source: ImageSource) -> Checkpoint | None:
        """Run the extractors on the images of one side."""
        plan, inputs = self._plans[side], self._inputs[side]
        needs = [self._need(plan, name) for name in plan.extractors]
        options = replace(with_label(self._options, plan.side.name), checkpoint=self._checkpoints[side])
        found, checkpoint = collect_of_source(source, needs, options)
        self._collections[plan.side.name] = found
        for name, part in zip(plan.extractors, found.parts, strict=True):
            self._names[side][name] = part.extractor
            rows = moments = None
            if part.rows is not None:
                rows = Input(
                    plan.side.name, rows=part.rows, extractor=part.extractor, precision=options.precision_of_rows
                )
                rows.moments = part.moments
            elif part.moments is not None:
                moments = Input(plan.side.name, moments=part.moments, extractor=part.extractor)
            for what, one in (("moments", rows or moments), ("rows", rows), ("logits", part.score or rows)):
                if (name, what) in plan.of_images:
                    inputs[name, what] = one
        return checkpoint

    def _need(self, plan: Plan, name: str) -> Need:
        """What is collected of the images for one extractor."""
        extractor, settings = self._extractors[name], self._settings
        kinds = {what for extractor_name, what in plan.of_images if extractor_name == name}
        score = None
        if "logits" in kinds and extractor.num_features is not None and collects_score(settings):
            score = new_score(extractor.num_features, settings)
        needs_rows = "rows" in kinds or ("logits" in kinds and score is None)
        for_errors = "moments" in kinds and settings.estimate and not settings.in_blocks
        return Need(extractor, moments="moments" in kinds, rows=needs_rows or for_errors, score=score)

    # What the result says about the sides -------------------------------------------------------------------------

    def notes(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """What was used of files that hold several things; `labels` are the names of the metrics in tables."""
        return tuple(note for plan in self._plans for note in plan.notes(labels))

    @property
    def skipped(self) -> dict[str, list[str]]:
        return {name: found.skipped for name, found in self._collections.items() if found.skipped}

    @property
    def ignored(self) -> dict[str, Mapping[str, int]]:
        return {name: found.ignored for name, found in self._collections.items() if found.ignored}

    @property
    def from_cache(self) -> tuple[str, ...]:
        return tuple(name for name, found in self._collections.items() if found.from_cache)


def _checkpoint_of(plan: Plan, options: ImageOptions) -> str | None:
    """The checkpoint of one side: ``run.samples.npz`` for ``run.npz``; None if there is none."""
    if options.checkpoint is None or not plan.of_images:
        return None
    path = f"{npz_path(options.checkpoint).removesuffix('.npz')}.{plan.side.name}.npz"
    with processes_of(options) as ranks:
        check_checkpoint(path, ranks)
    return path
