"""Names of metrics: ``fid``, ``fd-dinov2``, ``kid@dinov2-vitl14``."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from fidfast._arguments import require_sequence, shown
from fidfast._network_table import SHORT_NAMES
from fidfast.torch._evaluation.metrics import METRICS, Metric

__all__ = ["DEFAULT_METRICS", "Request", "network_of", "parse_metrics"]

#: Inception Score, FID, sFID, precision and recall: one network in one pass.
DEFAULT_METRICS = ("is", "fid", "sfid", "precision", "recall")

#: Names that other tools use.
_ALSO = {
    "isc": "is",
    "inception-score": "is",
    "inception_score": "is",
    "improved-precision": "precision",
    "improved-recall": "recall",
    "prec": "precision",
    "rec": "recall",
}


_CHOICES = f"the metrics are {', '.join(METRICS)}, fd-NETWORK (fd-dinov2) and METRIC@EXTRACTOR (kid@dinov2-vitl14)"


class Request(NamedTuple):
    """A metric of the caller."""

    #: As the caller wrote it, in lower case but for the extractor.
    name: str
    metric: Metric
    extractors: tuple[str, ...]
    label: str

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Names of the extractors, and what is needed of them."""
        return [(extractor, self.metric.samples) for extractor in self.extractors]


def network_of(extractor: str) -> str:
    """The network in the full name of an extractor, whatever its weights: "inception" of "inception-2015-12-05/x"."""
    name = extractor.split("/")[0].partition("-weights-")[0].removesuffix("-2015-12-05")
    return SHORT_NAMES.get(name, name)


def parse_metrics(metrics: Any) -> list[Request]:
    """The metrics of a sequence, or of a string with commas; without repetitions.

    Raises
    ------
    TypeError, ValueError
        If a name is not a metric; the message has the most similar name.
    """
    if metrics is None:
        metrics = DEFAULT_METRICS
    if isinstance(metrics, str):
        given, metrics = metrics, [part for part in metrics.replace(" ", ",").split(",") if part]
        if not metrics:
            raise ValueError(f"metrics: got no name in {given!r}; {_CHOICES}")
    names = require_sequence("metrics", metrics, str, least=1)
    requests = [_request(name) for name in names]
    return list({request.name: request for request in requests}.values())


def _request(given: str) -> Request:
    name, at, extractor = given.strip().partition("@")
    name = name.lower()
    if name.startswith(("fd-", "fd_")) and not at and len(name) > 3:
        network = given.strip()[3:]
        return Request(f"fd-{network}", METRICS["fid"], (SHORT_NAMES.get(network, network),), f"FD-{network}")
    name = _ALSO.get(name, name)
    if name not in METRICS:
        raise ValueError(f"metrics: unknown metric {shown(given)}{_hint(name)}")
    metric = METRICS[name]
    if not at:
        return Request(name, metric, metric.extractors, metric.label)
    if not extractor:
        raise ValueError(f"metrics: {given!r} names no extractor after @, as {name}@efficientnet-lite0 does")
    if not metric.any_extractor:
        networks = " and ".join(metric.extractors)
        raise ValueError(f"metrics: {name} is defined for {networks}, not for {extractor}; use fd-{extractor}")
    full = f"{name}@{extractor}"
    return Request(full, metric, (SHORT_NAMES.get(extractor, extractor),), full)


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, [*METRICS, *_ALSO, "fd-dinov2"], n=1)
    if close:
        return f"; did you mean {_ALSO.get(close[0], close[0])!r}?"
    return f"; {_CHOICES}"
