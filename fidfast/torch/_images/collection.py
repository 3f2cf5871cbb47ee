"""Moments, features and scores of several extractors from one pass over images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fidfast._images import cache
from fidfast._metrics.inception_score import InceptionScore
from fidfast._progress import progress_bar
from fidfast._results import Result
from fidfast._stats import Moments
from fidfast._text import printable
from fidfast.torch._extractors.callables import digest_of
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._images.checkpoint import Checkpoint, checkpoint_path, kept_after_error
from fidfast.torch._images.checks import prepared_for
from fidfast.torch._images.collectors import Collected, Need
from fidfast.torch._images.extraction_pass import ExtractionPass, moments_options
from fidfast.torch._images.joining import joined, need_of_part
from fidfast.torch._images.options import ImageOptions, processes_of
from fidfast.torch._images.sources import ImageSource
from fidfast.torch._processes.ranks import Ranks

__all__ = [
    "Collected",
    "Collection",
    "ImageResult",
    "Need",
    "collect_of_source",
    "describe_source",
    "full_name",
    "summary_of",
]


class ImageResult(Result):
    """What results on images say about their source, besides their fields."""

    #: Number of files of the source that are not read, by reason, each with an example: ``{".gif (a/b.gif)": 3}``.
    ignored: Mapping[str, int] = MappingProxyType({})
    #: Whether the result is from the cache.
    from_cache: bool = False


def describe_source(result: ImageResult, source: ImageSource, *, from_cache: bool = False) -> None:
    """Complete a new result with what it says about its source."""
    object.__setattr__(result, "ignored", {} if source.images is None else dict(source.images.ignored))
    object.__setattr__(result, "from_cache", from_cache)


def summary_of(result: ImageResult, num_samples: int, dim: int, extractor: str | None, skipped: list[str]) -> str:
    """One line about a result."""
    not_read = f", {sum(result.ignored.values())} files not read" if result.ignored else ""
    cached = ", from the cache" if result.from_cache else ""
    images = f"{num_samples} images ({len(skipped)} skipped{not_read})"
    return f"{images}, {dim} features of {printable(extractor or 'unknown')}{cached}"


@dataclass(frozen=True, eq=False)
class Collection(ImageResult):
    """What was collected in one pass over a set of images; `from_cache` if no network ran."""

    #: In the order of the needs.
    parts: list[Collected]
    #: One message for each broken image that was skipped, beginning with the image's path.
    skipped: list[str]
    #: If rows were collected, the name of the image of each row; its index if the images have no names.
    names: list[str]
    #: If rows were collected, the index of the image of each row among all images, including broken ones.
    indices: list[int]


def collect_of_source(
    source: ImageSource, needs: Sequence[Need], options: ImageOptions
) -> tuple[Collection, Checkpoint | None]:
    """Collect the features of several extractors from a source that `check_images` has opened.

    Each image is decoded once, resized once for each distinct input size and resize, and each distinct network runs
    once for a batch. Moments in the cache are not computed again. An image that is broken for one extractor is skipped
    for all.

    Parameters
    ----------
    source : ImageSource
    needs : sequence of Need
    options : ImageOptions
        The checkpoint holds the whole collection.

    Returns
    -------
    Collection
    Checkpoint or None
        For `removed_after`.

    Raises
    ------
    BrokenImageError, ValueError
        As `moments_of_images`.
    """
    with processes_of(options) as ranks:
        return _collect(source, needs, options if ranks.is_first else replace(options, progress=False), ranks)


def _collect(
    source: ImageSource, needs: Sequence[Need], options: ImageOptions, ranks: Ranks
) -> tuple[Collection, Checkpoint | None]:
    files = _cache_files(source, needs, options) if ranks.is_first else {}
    found = {number: cache.load(path, source.images) for number, path in files.items() if source.images is not None}
    cached = {number: moments for number, moments in found.items() if moments is not None}
    if ranks.size > 1 and options.use_cache:  # of the first process, and only if it holds everything
        cached = ranks.from_first(cached if all(need.is_empty for need in _without(needs, cached)) else {})
    remaining = _without(needs, cached)
    part = source if ranks.size == 1 else source.part(ranks.rank, ranks.size)
    if all(need.is_empty for need in remaining):
        checkpoint = None
        if options.checkpoint is not None and os.path.exists(checkpoint_path(options.checkpoint, ranks)):
            checkpoint = _checkpoint_of(part, needs, options, ranks)
        with _progress(source, options, "from the cache", initial=source.length or 0):
            parts = [
                Collected(cached.get(number), None, None, full_name(need.extractor, options))
                for number, need in enumerate(needs)
            ]
            result = Collection(parts, [], [], [])
            describe_source(result, source, from_cache=True)
            return result, checkpoint
    running = [number for number, need in enumerate(remaining) if not need.is_empty]
    prepared, options = prepared_for([needs[number].extractor for number in running], source.length, options)
    ready = dict(zip(running, prepared, strict=True))
    needs, remaining = (
        [replace(need, extractor=ready.get(number, need.extractor)) for number, need in enumerate(some)]
        for some in (needs, remaining)
    )
    checkpoint = None if options.checkpoint is None else _checkpoint_of(part, needs, options, ranks)
    local = remaining
    if ranks.size > 1:
        local = [need_of_part(need, part.first - source.first, options.skip_broken) for need in remaining]
    extraction = ExtractionPass(part, local, options, checkpoint, ranks.local_size)
    with ExitStack() as stack:

        def open_progress(initial: int) -> AbstractContextManager[Any]:
            return ranks.progress(stack.enter_context(_progress(source, options, initial=initial)), initial)

        collected = extraction.run(open_progress)
        stack.enter_context(kept_after_error(checkpoint))
        summaries = ranks.exchange(extraction.summary())
        ranks.end_pass(source.length)
        skipped = [message for summary in summaries for message in summary.skipped]
        num_samples = sum(summary.num_samples for summary in summaries)
        if num_samples == 0 and (options.shard is None or not skipped):
            raise ValueError(
                f"none of the {len(skipped)} images could be used; the first: {skipped[0]}"
                if skipped
                else "there are no images"
            )
        if ranks.size > 1 and num_samples > 0:
            collected = {
                number: joined(
                    ranks, one, number, remaining[number], summaries, moments_options(remaining[number], options)
                )
                for number, one in collected.items()
            }
        elif ranks.size == 1 and skipped and cached:  # the moments in the cache have rows of these images
            return collect_of_source(source, needs, replace(options, use_cache=False))
        parts = []
        for number, need in enumerate(needs):
            one = collected.get(number, Collected(None, None, None, need.extractor.full_name))
            if number in cached:
                one = replace(one, moments=cached[number])
            elif number in files and not skipped:
                assert one.moments is not None
                assert source.images is not None
                cache.save(files[number], one.moments, source.images)
            parts.append(one)
        names = [name for summary in summaries for name in summary.names]
        indices = [index for summary in summaries for index in summary.indices]
        result = Collection(parts, skipped, names, indices)
        describe_source(result, source)
    return result, checkpoint


def _without(needs: Sequence[Need], cached: Mapping[int, Moments]) -> list[Need]:
    """What is needed besides the moments in the cache."""
    return [replace(need, moments=need.moments and number not in cached) for number, need in enumerate(needs)]


def _cache_files(source: ImageSource, needs: Sequence[Need], options: ImageOptions) -> dict[int, Path]:
    """The files of the cache for the moments, which need not exist, by number of the need."""
    if not options.use_cache or source.images is None:
        return {}
    blocks = f" {options.blocks} blocks" if options.blocks > 1 else ""
    progress = options.progress is not False
    return {
        number: cache.cache_file(
            source.images,
            f"{full_name(need.extractor, options)} {options.precision_of_moments}{blocks}",
            progress=progress,
        )
        for number, need in enumerate(needs)
        if need.moments and need.extractor.reproducible
    }


def full_name(extractor: Extractor, options: ImageOptions) -> str:
    """The name of the extractor when it is prepared."""
    return replace(extractor, dtype=options.dtype or extractor.dtype).full_name


def _checkpoint_of(source: ImageSource, needs: Sequence[Need], options: ImageOptions, ranks: Ranks) -> Checkpoint:
    """The checkpoint of a run, with a description that must equal that in the file, before the first image is read.

    It does not depend on what is in the cache.
    """
    assert options.checkpoint is not None
    names = [full_name(need.extractor, options) for need in needs]
    job = [source.fingerprint(progress=options.progress is not False), repr(options.image_key), str(options.decoding)]
    job += [options.precision_of_moments, *([f"{options.blocks} blocks"] if options.blocks > 1 else [])]
    for name, need in zip(names, needs, strict=True):
        job += [name, *([] if need.extractor.reproducible else [digest_of(need.extractor.model)])]
        job += [kind for kind in ("moments", "rows") if getattr(need, kind)]
        job += [] if need.score is None else [_digest_of_score(need.score)]
    return Checkpoint(checkpoint_path(options.checkpoint, ranks), " ".join(job), " and ".join(dict.fromkeys(names)))


def _digest_of_score(score: InceptionScore) -> str:
    digest = hashlib.sha256()
    for key, value in score.state().items():
        digest.update(f"{key} {value.shape} {value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _progress(source: Any, options: ImageOptions, note: str = "", *, initial: int = 0) -> AbstractContextManager[Any]:
    """The progress of a pass over images, of which `initial` are done; `note` is added to its label."""
    label = options.progress if isinstance(options.progress, str) else ""
    label = f"{label} ({note})" if label and note else label or note
    return progress_bar(source.length, options.progress is not False, label=label, initial=initial)
