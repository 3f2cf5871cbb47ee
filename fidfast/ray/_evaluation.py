"""Several metrics of datasets, from one pass over their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray
import ray.data

from fidfast._arguments import require_bool, require_mapping, require_precision
from fidfast.ray._columns import holds_features
from fidfast.ray._datasets import feature_column
from fidfast.ray._rows import RowsOfDataset
from fidfast.ray._sides import Reading, Side

if TYPE_CHECKING:
    from fidfast.torch import Evaluation

__all__ = ["evaluate"]

#: Blocks of the moments from which standard errors are computed.
_BLOCKS = 40


def evaluate(
    samples: Any,
    reference: Any,
    *,
    column: str | None = None,
    metrics: str | Sequence[str] | None = None,
    like: str | None = None,
    estimate: bool = False,
    extractors: Mapping[str, Any] | None = None,
    seed: int = 2020,
    precision: str | None = None,
    num_gpus: float | None = None,
    concurrency: Any = None,
    **keywords: Any,
) -> Evaluation:
    """Compute several metrics from one pass over the images of each side, at least one of them a Ray dataset.

    Parameters
    ----------
    samples, reference : ray.data.Dataset, or as in `fidfast.torch.evaluate`
        A dataset of images, or of features. What is not a dataset holds statistics, moments or features.
    column : str, optional
        As in `moments`. By default "features" if a dataset has this column, else "image".
    metrics, like, extractors, seed
        As in `fidfast.torch.evaluate`.
    estimate : bool, default False
        Whether to compute standard errors: of Fréchet distances, from 40 blocks of the rows of each dataset.
    precision : {"float32", "float64"}, optional
        As in `moments`; by default "float32" for metrics of rows.
    num_gpus, concurrency, **keywords
        As in `moments`.

    Returns
    -------
    Evaluation

    Raises
    ------
    FileNotFoundError, ImportError, TypeError, ValueError
        As `moments` and `fidfast.torch.evaluate`.

    Warns
    -----
    UserWarning
        If the two sides have different extractors, or images were skipped.

    Notes
    -----
    Fréchet distances ("fid", "sfid", "fdr", "fd-NETWORK") need moments alone, and nothing else is moved. For the others
    the features of images are kept in Ray's object store, which spills them to disk if they do not fit, and all rows
    are collected in this process in the order of the dataset, 4 bytes a number: 8 GB for 1,000,000 rows of dim 2048.
    `kid_subsets` needs fewer.
    """
    from fidfast.torch import evaluate as evaluate_here
    from fidfast.torch._evaluation.names import parse_metrics

    precision_of_moments = require_precision("float64" if precision is None else precision)
    estimate = require_bool("estimate", estimate)
    given = {} if extractors is None else require_mapping("extractors", extractors)
    requests = parse_metrics(metrics)
    # All options are checked here, also those of images that a dataset of features does not have.
    images = Reading("evaluate", column, [], num_gpus, concurrency, keywords)
    blocks = _BLOCKS if estimate else 1
    sides: dict[str, Any] = {"samples": samples, "reference": reference}
    for name, source in sides.items():
        if not isinstance(source, ray.data.Dataset):
            continue
        needs: dict[str, set[str]] = {}
        for request in requests:
            what = getattr(request.metric, name)
            if what is not None:
                for extractor in request.extractors:
                    needs.setdefault(extractor, set()).add(what)
        if not needs:
            sides[name] = None
            continue
        found = column or ("features" if "features" in (source.columns() or []) else "image")
        if holds_features(source, found):
            side = Side(source, name, Reading("evaluate", found))
            is_enough = all(kinds == {"moments"} for kinds in needs.values())
            sides[name] = side.moments(precision_of_moments, blocks) if is_enough else RowsOfDataset(side).take_all()
        else:
            sides[name] = _of_images(source, name, images, found, needs, given, like, precision_of_moments, blocks)
    return evaluate_here(
        *sides.values(), metrics=metrics, like=like, estimate=estimate, extractors=extractors, seed=seed,
        precision=precision, blocks=blocks,
    )  # fmt: skip


def _of_images(
    source: Any,
    name: str,
    images: Reading,
    column: str,
    needs: Mapping[str, set[str]],
    given: Mapping[str, Any],
    like: str | None,
    precision: str,
    blocks: int,
) -> dict[str, Any]:
    """For each extractor, moments if they are enough, else features."""
    from fidfast.torch import ImageFeatures
    from fidfast.torch._extractors.inception import INCEPTION_OUTPUTS

    names = list(needs)
    has_inception = any(one in INCEPTION_OUTPUTS and one not in given for one in names)
    extractors = [given.get(one, one) for one in names]
    reading = Reading(
        "evaluate", column, extractors, images.num_gpus, images.concurrency, images.keywords,
        like if has_inception else None,
    )  # fmt: skip
    side = Side(source, name, reading)
    columns = {one: feature_column(number) for number, one in enumerate(names)}
    of_moments = [one for one in names if needs[one] == {"moments"}]
    if len(of_moments) < len(names):
        side.keep_features()
    found: dict[str, Any] = {}
    if of_moments:
        moments = side.moments_by_column([columns[one] for one in of_moments], precision, blocks)
        found.update((one, moments[columns[one]]) for one in of_moments)
    for one in names:
        if one not in found:
            rows = RowsOfDataset(side, columns[one])
            found[one] = ImageFeatures(rows.take_all(), [], [], rows.extractor, [])
    return found
