"""The result of `evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fidfast._arguments import require_choice, shown
from fidfast._metrics.frechet import FrechetTerms
from fidfast._metrics.uncertainty import Estimate
from fidfast._results import Result, value_with_error
from fidfast._text import printable

__all__ = ["Evaluation"]


@dataclass(frozen=True, eq=False)
class Evaluation(Result):
    """Numbers of several metrics, by name of the metric; returned by `evaluate`.

    ``found["fid"]`` is the value of a metric, and ``for name in found.values`` are all of them. Units and sources are
    those of the functions that `results` are of: `FrechetTerms`, `Estimate`, `KernelDistance`, and so on.
    """

    #: The number of each metric. With ``estimate=True`` a Fréchet distance without its bias.
    values: Mapping[str, float]
    #: Its standard error; None if the metric has none, or without ``estimate=True``.
    stderr: Mapping[str, float | None]
    #: What the function of each metric returned.
    results: Mapping[str, Any]
    #: For each metric the number of samples, and of reference samples if it has a reference; None if it is unknown.
    num_samples: Mapping[str, tuple[int | None, ...]]
    #: Name of the extractor of each metric, with resize and arithmetic; None if it is unknown.
    extractors: Mapping[str, str | None]
    #: Name of each metric in tables.
    labels: Mapping[str, str]
    #: The tool whose conventions were used, or None for those of fidfast.
    like: str | None = None
    #: Seed of what is random: shuffled splits, subsets, directions.
    seed: int | None = None
    #: What limits the meaning of a metric, or with ``estimate=True`` why it has no standard error.
    cautions: Mapping[str, str] = field(default_factory=dict)
    #: What was used of files that hold several things.
    notes: tuple[str, ...] = ()
    #: By side, one message for each broken image that was skipped, beginning with the image's path.
    skipped: Mapping[str, list[str]] = field(default_factory=dict)
    #: By side, number of files that are not read, by reason, each with an example.
    ignored: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    #: The sides whose moments are from the cache.
    from_cache: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        """Whether all fields are equal; NaN equals NaN."""
        return self.to_dict() == other.to_dict() if isinstance(other, Evaluation) else NotImplemented

    def __getitem__(self, metric: str) -> float:
        """The value of a metric."""
        if not isinstance(metric, str) or metric not in self.values:
            raise KeyError(f"{shown(metric)} was not computed; the metrics are {', '.join(self.values)}")
        return self.values[metric]

    def text(self, metric: str) -> str:
        """The value of a metric, with its standard error if there is one.

        Parameters
        ----------
        metric : str

        Returns
        -------
        str
            ``12.34 ± 0.08``: two digits of the error, or six digits of the value; eight of a Fréchet distance, or
            three if there are too few samples.

        Raises
        ------
        ValueError
            If the metric was not computed.
        """
        metric = require_choice("metric", metric, tuple(self.values))
        value, error, result = self[metric], self.stderr[metric], self.results[metric]
        if error is not None:
            return value_with_error(value, error)
        return result.distance_text if isinstance(result, FrechetTerms) else f"{value:.6g}"

    def __str__(self) -> str:
        return ", ".join(f"{self.labels[name]} {self.text(name)}" for name in self.values)

    def table(self) -> str:
        """One line for each metric, followed by extractors, numbers of samples and what limits the numbers."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        width = max(map(len, self.labels.values()), default=0)
        for name in self.values:
            yield f"{self.labels[name]:{width}}  {self.text(name)}"
        yield ""
        yield from self._facts("extractor", {name: text or "unknown" for name, text in self.extractors.items()})
        yield from self._facts("num_samples", {name: _counts(pair) for name, pair in self.num_samples.items()})
        conventions = [] if self.like is None else [f"like {self.like}"]
        conventions += [] if self.seed is None else [f"seed {self.seed}"]
        yield from ([", ".join(conventions)] if conventions else [])
        biased = {
            name: found.value
            for name, found in self.results.items()
            if isinstance(found, Estimate) and found.note is None
        }
        if biased:
            texts = ", ".join(f"{self.labels[name]} {value:.8g}" for name, value in biased.items())
            yield f"with bias, as reported by {self.like or 'other tools'}: {texts}"
        yield from self.notes
        # Several metrics may have the same caution.
        for caution in dict.fromkeys(self.cautions.values()):
            names = [self.labels[name] for name, text in self.cautions.items() if text == caution]
            yield f"{', '.join(names)}: {caution}"

    def _facts(self, what: str, facts: Mapping[str, str]) -> Iterator[str]:
        """A line for each different fact, with the metrics that it is about if there are several."""
        different = dict.fromkeys(facts.values())
        for fact in different:
            names = [self.labels[name] for name, text in facts.items() if text == fact]
            yield f"{what} {printable(fact)}" + (f" ({', '.join(names)})" if len(different) > 1 else "")


def _counts(pair: Iterable[int | None]) -> str:
    return " and ".join("unknown" if n is None else f"{n:,}" for n in pair)
