"""Every number of a paper from one pass over the images: `evaluate`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fidfast._arguments import MAX_SEED, optional, require_bool, require_integer, require_mapping, require_path
from fidfast._inputs import Input
from fidfast._progress import progress_bar
from fidfast._results import distance_label, kernel_label
from fidfast._stats import NEGATIVE_TOLERANCE, require_tolerance
from fidfast.torch._evaluation.collecting import Collector
from fidfast.torch._evaluation.metrics import Computer, Pair, Settings
from fidfast.torch._evaluation.names import Request, parse_metrics
from fidfast.torch._evaluation.networks import open_own
from fidfast.torch._evaluation.result import Evaluation
from fidfast.torch._evaluation.sides import open_side, plan_of
from fidfast.torch._extractors.resize import check_resize
from fidfast.torch._images.extraction import ddof_of
from fidfast.torch._images.options import ImageKeywords, ImageOptions, check_device, merge_options, processes_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["evaluate", "evaluate_after"]


def evaluate(
    samples: Any,
    reference: Any,
    *,
    metrics: str | Sequence[str] | None = None,
    like: str | None = None,
    estimate: bool = False,
    extractors: Mapping[str, Any] | None = None,
    weights: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None,
    resize: str | None = None,
    seed: int = 2020,
    negative_tolerance: float = NEGATIVE_TOLERANCE,
    options: ImageOptions | None = None,
    **keywords: Unpack[ImageKeywords],
) -> Evaluation:
    """Compute several metrics from one pass over the images of each side.

    Parameters
    ----------
    samples, reference
        Any source of images that `moments_of_images` accepts; a file of statistics, of one or several extractors; (n,
        dim) features, `Moments`, `GaussianStats` or a file of these; a dictionary as of `stats_by_extractor`; or a file
        with images and statistics. Statistics are used where they suffice, then features, then images, and a network
        runs only for what a side lacks.
        `reference` may be None if no metric needs it.
    metrics : str or sequence of str, optional
        Names, in a string separated by commas. "is" (Inception Score), "fid", "sfid", "kid", "precision", "recall",
        "density", "coverage", "cmmd", "fdr", "vendi", "mind"; "fd-NETWORK", the Fréchet distance with another
        extractor, such as "fd-dinov2"; and ``METRIC@EXTRACTOR`` for any metric with any extractor, such as
        ``kid@dinov2-vitl14``. By default "is", "fid", "sfid", "precision" and "recall", which need one network.
    like : str, optional
        One of `LIKE`: the tool whose resize, pixel range, ``ddof``, splits, subsets and ties are used. "adm" is the
        evaluator of guided-diffusion. By default those of the functions of this package.
    estimate : bool, default False
        Whether to compute standard errors. Fréchet distances are then those without bias, as in `fidfast.estimate`,
        which keeps the features of images in memory, or only moments with ``blocks=20``.
    extractors : mapping, optional
        Extractors by name, for names in `metrics`: anything that `as_extractor` accepts. They have precedence over
        extractors that `load_extractor` loads by the same name.
    weights : path or mapping, optional
        Weights file of the Inception network, or files by name of the network, as in `load_extractors`.
    resize : str, optional
        One of `RESIZES`, for all extractors that are loaded by name. By default that of `like`, of statistics on the
        other side, or of each extractor.
    seed : int, default 2020
        Seed of shuffles and subsets of other tools, and of the directions of "mind".
    negative_tolerance : float, default 1e-6
        As in `GaussianStats`, for files of statistics.
    options : ImageOptions, optional
    **keywords
        Fields of `ImageOptions`, which have precedence over `options`. A `checkpoint` ``run.npz`` means two files,
        ``run.samples.npz`` and ``run.reference.npz``.

    Returns
    -------
    Evaluation

    Raises
    ------
    BrokenImageError, FileNotFoundError, ImportError, TypeError, ValueError
        As `fid_of_images`. Before a network runs: if the name of a metric is unknown; if an argument does not hold what
        a metric needs, for example only statistics for "kid"; if there are too few samples.

    Warns
    -----
    UserWarning
        If the two sides have different extractors.

    Notes
    -----
    All metrics of an extractor are computed from the same features, and extractors of one network from one call of it;
    all networks share the decoded images. Memory does not grow with the number of images, except for metrics that need
    the features themselves: "kid", "precision", "recall", "density", "coverage", "cmmd", "vendi" and "mind", 4 bytes a
    number.

    The results of ``like="adm"`` are those of the rules in guided-diffusion's ``evaluations/evaluator.py`` (Dhariwal &
    Nichol, 2021): statistics of the file where it has them, else with ``ddof`` 1; the score of consecutive splits of
    5,000 images, not shuffled; precision and recall with k = 3, ties included, from distances in float16.

    Examples
    --------
    >>> import fidfast.torch
    >>> found = fidfast.torch.evaluate("samples.npz", "reference.npz", like="adm")  # doctest: +SKIP
    >>> print(found.table())  # doctest: +SKIP
    """
    found = evaluate_after(
        samples, reference, metrics=metrics, like=like, estimate=estimate, extractors=extractors, weights=weights,
        resize=resize, seed=seed, negative_tolerance=negative_tolerance,
        options=merge_options(options, keywords, "evaluate"),
    )  # fmt: skip
    assert found is not None
    return found


def evaluate_after(
    samples: Any,
    reference: Any,
    *,
    metrics: str | Sequence[str] | None,
    like: str | None,
    estimate: bool,
    extractors: Mapping[str, Any] | None,
    weights: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None,
    resize: str | None,
    seed: int,
    negative_tolerance: float,
    options: ImageOptions,
    continues: Callable[[], bool] = lambda: True,
) -> Evaluation | None:
    """As `evaluate`; None if `continues`, which is called when the images are done, returns False."""
    requests = parse_metrics(metrics)
    settings = Settings(
        like=like,
        ddof=ddof_of(None, like),
        estimate=require_bool("estimate", estimate),
        seed=require_integer("seed", seed, 0, MAX_SEED),
        precision=options.precision_of_rows,
        in_blocks=options.blocks > 1,
    )
    if resize is not None:
        check_resize(resize)
    for name, path in weights.items() if isinstance(weights, Mapping) else [("", weights)]:
        optional(require_path, f"weights[{name!r}]" if name else "weights", path)
    given = {} if extractors is None else require_mapping("extractors", extractors)
    negative_tolerance = require_tolerance(negative_tolerance)
    check_device(options.device)
    with processes_of(options) as ranks:
        one, two = (
            open_side(source, name, options.precision_of_rows, negative_tolerance)
            for name, source in (("samples", samples), ("reference", reference))
        )
        own = open_own([name for request in requests for name in request.extractors], (one, two), given)
        plans = plan_of(requests, (one, two), settings, {name: extractor.name for name, extractor in own.items()})
        collector = Collector(plans, settings, options)
        collector.load(given, own=own, weights=weights, resize=resize)
        with collector.collected() as found:
            if not continues():
                return None
            return _evaluation(
                requests, found, settings, collector, options if ranks.is_first else replace(options, progress=False)
            )


def _evaluation(
    requests: Sequence[Request],
    found: Mapping[tuple[str, str], Pair],
    settings: Settings,
    collector: Collector,
    options: ImageOptions,
) -> Evaluation:
    computer = Computer(found, settings, [(request.metric, request.extractors) for request in requests])
    values: dict[str, float] = {}
    errors: dict[str, float | None] = {}
    results: dict[str, Any] = {}
    cautions: dict[str, str] = {}
    show = options.progress is not False
    with progress_bar(len(requests), show, label="metrics", unit="metrics", timed=False) as bar:
        for request in requests:
            bar.set_description_str(f"metrics: {request.label}")
            result = computer.result(request.metric.compute, request.extractors)
            number = request.metric.number(result)
            values[request.name], results[request.name] = number.value, result
            errors[request.name] = number.stderr if settings.estimate else None
            caution = number.caution
            if settings.estimate and number.no_error is not None:
                caution = f"without a standard error: {number.no_error}"
            if caution is not None:
                cautions[request.name] = caution
            bar.update(1)
    pairs = {request.name: [found[key] for key in request.keys] for request in requests}
    labels = {request.name: _label(request, pairs[request.name][0]) for request in requests}
    is_random = any(request.metric.is_random(settings) for request in requests)
    return Evaluation(
        values=values,
        stderr=errors,
        results=results,
        num_samples={request.name: _counts(request, pairs[request.name][0]) for request in requests},
        extractors={name: _extractors(of) for name, of in pairs.items()},
        labels=labels,
        like=settings.like,
        seed=settings.seed if is_random else None,
        cautions=cautions,
        notes=collector.notes(labels),
        skipped=collector.skipped,
        ignored=collector.ignored,
        from_cache=collector.from_cache,
    )


def _counts(request: Request, pair: Pair) -> tuple[int | None, ...]:
    """The numbers of samples of the sides that a metric needs."""
    sides = [pair.samples, *([] if request.metric.reference is None else [pair.reference])]
    has_rows = [isinstance(side, Input) and side.rows is not None for side in sides]
    return tuple(
        side.finite_shape()[0] if rows else side.num_samples for side, rows in zip(sides, has_rows, strict=True)
    )


def _extractors(pairs: Sequence[Pair]) -> str | None:
    """The names of the extractors of a metric: one, unless the sides differ or it has several."""
    names = [name for pair in pairs for name in pair.extractors if name is not None]
    return " and ".join(dict.fromkeys(names)) or None


def _label(request: Request, pair: Pair) -> str:
    """The name of the metric in tables: FID, sFID and KID are those of metrics of the 2015 Inception network only."""
    if request.label == "KID":
        return kernel_label(*pair.extractors)
    if request.label not in ("FID", "sFID"):
        return request.label
    label = distance_label(*pair.extractors)
    return "spatial Fréchet distance" if request.label == "sFID" and label == "Fréchet distance" else label
