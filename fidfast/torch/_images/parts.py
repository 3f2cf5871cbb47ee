"""Moments of a source of images, or of one part of it, which may be empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fidfast._files import SourcePart
from fidfast._shards import Shard
from fidfast._stats import Moments
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._images.checkpoint import Checkpoint
from fidfast.torch._images.checks import dim_of_image, first_image, prepared_for
from fidfast.torch._images.collection import (
    Collected,
    Collection,
    Need,
    collect_of_source,
    describe_source,
    full_name,
)
from fidfast.torch._images.options import ImageOptions
from fidfast.torch._images.sources import ImageSource

__all__ = ["moments_of_several", "parts_of_source"]


def moments_of_several(
    source: ImageSource, extractors: Sequence[Extractor], options: ImageOptions
) -> tuple[Collection, Checkpoint | None]:
    """The moments of several extractors, as `moments_of_source`; without samples if all images of a part are broken."""
    checkpoint = None
    if options.shard is not None and source.length == 0:
        empty = [Collected(None, None, None, full_name(extractor, options)) for extractor in extractors]
        found = Collection(empty, [], [], [])
        describe_source(found, source)
    else:
        found, checkpoint = collect_of_source(source, [Need(one, moments=True) for one in extractors], options)
    for number, (part, extractor) in enumerate(zip(found.parts, extractors, strict=True)):
        if part.moments is None:
            dim = _dim_of(extractor, source, options)
            moments = Moments(
                dim, precision=options.precision_of_moments, extractor=part.extractor, blocks=options.blocks
            )
            found.parts[number] = replace(part, moments=moments)
    return found, checkpoint


def parts_of_source(source: ImageSource, options: ImageOptions) -> list[SourcePart]:
    """The part that the option `shard` chooses, if it is given; before the pass, since files may vanish."""
    if options.shard is None:
        return []
    shard, total = Shard.from_text("shard", options.shard), source.complete.length
    assert total is not None
    return [SourcePart(shard.number, shard.parts, total, source.complete.digest())]


def _dim_of(extractor: Extractor, source: ImageSource, options: ImageOptions) -> int:
    """Number of features of an extractor; if it is unknown, of the first image of the complete source."""
    if extractor.num_features is not None:
        return extractor.num_features
    (network,), options = prepared_for([extractor], 1, options)
    image = first_image(source.complete, "source", replace(options, skip_broken=True))
    if image is None:
        raise ValueError(f"the number of features of the extractor {extractor.name} is unknown: all images are broken")
    return dim_of_image(network, image, options)
