"""The result of `report`: its contents as text, dictionary and HTML page."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from typing import Any

from fidfast._arguments import require_path
from fidfast._files import write_whole
from fidfast._report.contents import K_DENSITY_COVERAGE, K_PRECISION_RECALL, Contents, Row
from fidfast._report.page import html_page, html_table
from fidfast._results import json_object

__all__ = ["Report"]

#: Columns of the text table: fewer than 80, because a "±" may be printed as "+-".
TABLE_WIDTH = 78

#: Number of harmful samples in the text table.
HARMFUL_IN_TABLE = 5


@dataclass(frozen=True, eq=False)
class Report(Contents):
    """Every metric computable from features; returned by `report`. `reasons` says why a field is None."""

    def to_dict(self) -> dict[str, Any]:
        """All numbers by name, without spectra and images; can be written as JSON."""
        shares: dict[str, float | None] = dict.fromkeys(("precision", "recall", "density", "coverage"))
        cautions = {}
        for metric in ("precision_recall", "density_coverage"):
            found = {} if getattr(self, metric) is None else getattr(self, metric).to_dict()
            shares |= {name: found[name] for name in shares if name in found}
            if "caution" in found:
                cautions[metric] = found["caution"]
        numbers = {
            "label": self.label,
            "titles": self.titles,
            "created": self.created,
            "command": self.command,
            **self.estimate.to_dict(),
            "num_samples": self.num_samples,
            "extractor": self.extractors,
            "mean_term": self.mean_term,
            "dim": self.dim,
            "rank": self.ranks,
            "dead_units": self.dead_units,
            "extrapolation": self.extrapolation,
            "trimmed": self.trimmed,
            "most_harmful": self.most_harmful,
            "kid": self.kid,
            "cmmd": self.cmmd,
            **shares,
            "k": {"precision_recall": K_PRECISION_RECALL, "density_coverage": K_DENSITY_COVERAGE},
            "reasons": self.reasons,
            "cautions": cautions,
        }
        return json_object(numbers)

    def table(self) -> str:
        """The table as text, at most 80 columns wide, followed by the most harmful samples."""
        rows = self.rows()
        for rank, sample in enumerate((self.most_harmful or ())[:HARMFUL_IN_TABLE]):
            note = f"{sample.name} {sample.alike_text}".rstrip()
            rows.append(Row("most harmful" if rank == 0 else "", f"{sample.influence:+.4g}", note))
        if "images" in self.reasons:
            rows.append(Row("images", "", self.reasons["images"]))
        widths = max(len(row.name) for row in rows), max(len(row.value) for row in rows)
        indent = " " * (sum(widths) + 4)
        lines = []
        for row in rows:
            first, *more = textwrap.wrap(row.note, TABLE_WIDTH - len(indent), break_on_hyphens=False) or [""]
            lines.append(f"{row.name:{widths[0]}}  {row.value:{widths[1]}}  {first}".rstrip())
            lines += [indent + line for line in more]
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"{self.headline}: {self.titles[0]} against {self.titles[1]}"

    def __repr__(self) -> str:
        return f"<Report {self}>"

    def _repr_html_(self) -> str:
        return html_table(self.rows(), caption=str(self))

    def html(self) -> str:
        """The report as an HTML page with the table, the plots, and the images of the most harmful samples.

        The page is self-contained. Plots need matplotlib and images need pillow; without them the page has no plots or
        images.

        Returns
        -------
        str

        Warns
        -----
        UserWarning
            If matplotlib is missing, or pillow when there are images.
        """
        return html_page(self)

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Write `html` to a file atomically.

        Parameters
        ----------
        path : path

        Raises
        ------
        OSError
            If the file cannot be written.

        Warns
        -----
        UserWarning
            As `html`.
        """
        path = require_path("path", path)
        data = self.html().encode("utf-8", "backslashreplace")
        with write_whole(path) as file:
            file.write(data)
