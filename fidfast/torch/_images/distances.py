"""Distances between sets of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fidfast._arguments import optional, require_callable
from fidfast._inputs import Input
from fidfast._metrics.frechet import distance_between, terms_between
from fidfast._metrics.groups import require_groups
from fidfast._metrics.jackknife import Jackknife
from fidfast._metrics.uncertainty import Estimate, estimate_from_jackknife, estimate_with_terms
from fidfast._stats import GaussianStats
from fidfast._warnings import warn_user
from fidfast.torch._images.checks import check_images
from fidfast.torch._images.extraction import ddof_of, features_of_source, moments_of_source, warn_of_skipped
from fidfast.torch._images.options import ImageKeywords, ImageOptions, merge_options, processes_of, with_label

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["distance_of_images", "estimate_of_images", "fid_of_images"]


def fid_of_images(
    samples: Any,
    reference: Any,
    extractor: Any = None,
    *,
    like: str | None = None,
    ddof: int | None = None,
    options: ImageOptions | None = None,
    **keywords: Unpack[ImageKeywords],
) -> float:
    """Fréchet distance between the features of two sets of images; the FID for the extractor "inception".

    Parameters
    ----------
    samples, reference
        Any source that `moments_of_images` accepts; or (n, dim) features, `GaussianStats`, `Moments` or a file of any
        of these.
    extractor : str, Extractor, callable or network, optional
        As in `moments_of_images`. By default that of the statistics on the other side, if `load_extractor` can load it
        by name, or "inception". Not loaded if neither side has images.
    like : str, optional
        One of `LIKE`: the tool whose resize, pixel range and ddof are used. For the extractor "inception".
    ddof : int, optional
        The covariances are the scatters divided by ``num_samples - ddof``. By default that of `like`, or 1. Statistics
        keep their own.
    options : ImageOptions, optional
    **keywords
        Fields of `ImageOptions`, which have precedence over `options`. A `checkpoint` is rejected, since there are two
        passes over images: save the moments with `moments_of_images` instead.

    Returns
    -------
    float
        As `fidfast.frechet_distance`; never negative.

    Raises
    ------
    BrokenImageError, FileNotFoundError, TypeError, ValueError
        As `moments_of_images`. Both sides are opened and checked before the network runs: a side with fewer than two
        images, or statistics of another dim than that of the extractor, raise a ValueError.

    Warns
    -----
    UserWarning
        If the two sides have different extractors or different `ddof`, or if images were skipped.
    """
    options = merge_options(options, keywords, "fid_of_images")
    _refuse_checkpoint(options)
    with processes_of(options):
        return distance_of_images({"samples": samples, "reference": reference}, extractor, like, ddof, options)


def distance_of_images(
    sources: dict[str, Any], extractor: Any, like: str | None, ddof: int | None, options: ImageOptions
) -> float:
    """As `fid_of_images`, with the names of the two arguments."""
    ddof = ddof_of(ddof, like)
    checked = check_images(sources, extractor, like=like, options=options, min_images=max(2, ddof + 1))
    stats: list[GaussianStats] = []
    for name, source in checked.sources.items():
        if isinstance(source, Input):
            stats.append(source.stats_with(ddof=ddof))
            continue
        assert checked.extractor is not None
        found, _ = moments_of_source(source, checked.extractor, with_label(checked.options, name))
        warn_of_skipped(found, name)
        stats.append(found.moments.stats(ddof=ddof))
    divisors = [one.ddof for one in stats]
    if None not in divisors and divisors[0] != divisors[1]:
        names = " and ".join(f"{name} has ddof {divisor}" for name, divisor in zip(sources, divisors, strict=True))
        warn_user(f"the covariances have different divisors: {names}")
    return distance_between(*stats)


def estimate_of_images(
    samples: Any,
    reference: Any,
    extractor: Any = None,
    *,
    like: str | None = None,
    groups: Any = None,
    options: ImageOptions | None = None,
    **keywords: Unpack[ImageKeywords],
) -> Estimate:
    """Fréchet distance between two sets of images with its standard error and its bias.

    Parameters
    ----------
    samples, reference, extractor, like
        As in `fid_of_images`.
    groups : callable, or tuple of two, optional
        From the name of an image to its group, an integer or a string, where images are not independent, such as frames
        of videos: ``os.path.dirname`` if each video has a folder. `fidfast.estimate` leaves out whole groups. A tuple
        has the functions of samples and reference; None stands for independent images.
    options, **keywords
        As in `fid_of_images`. The features of both sides are kept in memory, 4 bytes per number.

    Returns
    -------
    Estimate
        As `fidfast.estimate` of the features. Its `value` has the ddof of `like`, which changes `bias`, but neither the
        unbiased distance nor its error bar.

    Raises
    ------
    BrokenImageError, FileNotFoundError, TypeError, ValueError
        As `fid_of_images`.

    Warns
    -----
    UserWarning
        As `fid_of_images`.
    """
    options = merge_options(options, keywords, "estimate_of_images")
    _refuse_checkpoint(options)
    functions = groups if isinstance(groups, tuple) else (groups, groups)
    if len(functions) != 2:
        raise ValueError(f"groups must have 2 items, one for each side, got {len(functions)}")
    for function in functions:
        optional(require_callable, "groups", function)
    with processes_of(options):
        sources = {"samples": samples, "reference": reference}
        checked = check_images(sources, extractor, like=like, options=options, rows=True)
        inputs: list[Input] = []
        labels: list[list[Any] | None] = []
        for (name, source), function in zip(checked.sources.items(), functions, strict=True):
            if isinstance(source, Input):
                inputs.append(source)
                labels.append(None)
                continue
            assert checked.extractor is not None
            found = features_of_source(source, checked.extractor, with_label(checked.options, name))
            warn_of_skipped(found, name)
            inputs.append(
                Input(name, rows=found.features, extractor=found.extractor, precision=options.precision_of_rows)
            )
            labels.append(None if function is None else [function(image) for image in found.names])
    found_groups = require_groups(tuple(labels), inputs)
    estimate = estimate_from_jackknife(Jackknife(inputs[0], inputs[1], options.precision_of_rows, groups=found_groups))
    if (ddof := ddof_of(None, like)) == 1:
        return estimate
    return estimate_with_terms(estimate, terms_between(*(source.stats_with(ddof=ddof) for source in inputs)))


def _refuse_checkpoint(options: ImageOptions) -> None:
    if options.checkpoint is not None:
        raise ValueError("checkpoint applies to one set of images: call moments_of_images for each of the two")
