"""A report as one HTML page that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._report.result import HarmfulSample, Report

__all__ = ["page"]

#: Longer side of a picture, in pixels.
PICTURE = 192

_CSS = """
:root { color-scheme: light dark; --ground: #fff; --ink: #222; --soft: #666; --line: #ddd; }
@media (prefers-color-scheme: dark) { :root { --ground: #181818; --ink: #ddd; --soft: #999; --line: #3a3a3a; } }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.4 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0.5rem 0 1rem; font-size: 1.6rem; }
h2 { margin: 2rem 0 0.5rem; font-size: 1.2rem; }
h2, p { break-after: avoid; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.75rem 0.35rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; }
tr > :last-child { padding-right: 0; }
th[scope=row] { font-weight: normal; }
th.part { padding-left: 1.25rem; }
td.value { white-space: nowrap; }
td.note, figcaption, p, footer { color: var(--soft); font-size: 0.875rem; }
figure { margin: 0; break-inside: avoid; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1.5rem; }
.plots img { width: 100%; height: auto; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: 1rem; }
.samples img { width: 100%; height: 7.5rem; object-fit: contain; object-position: left bottom; }
.samples b { color: var(--ink); }
img.small { image-rendering: pixelated; }
footer { margin-top: 2rem; }
@media (max-width: 40rem) { td.note { display: block; padding-top: 0; } tr { display: grid; border-bottom: 1px solid
  var(--line); grid-template-columns: 1fr auto; } th, td { border: 0; } td.note { grid-column: 1 / -1; }
  thead { display: none; } }
@media print { body { max-width: none; padding: 0; } .plots { grid-template-columns: repeat(3, 1fr); } }
"""


def page(report: Report) -> str:
    """The whole page."""
    title = f"{report.headline}: {report.titles[0]} against {report.titles[1]}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<h1>{escape(report.headline)}</h1>
{_table(report)}
<h2>Plots</h2>
{_plots(report)}
<h2>The samples that harm most</h2>
{_samples(report)}
<footer>fidfast {escape(_core.__version__)}</footer>
</body>
</html>
"""


def _table(report: Report) -> str:
    rows = []
    for row in report.rows():
        part = ' class="part"' if row.name.startswith(" ") else ""
        name, value = escape(row.name.strip()), escape(row.value or "–")
        rows.append(
            f'<tr><th scope="row"{part}>{name}</th><td class="value">{value}</td>'
            f'<td class="note">{escape(row.note)}</td></tr>'
        )
    head = '<tr><th scope="col">what</th><th scope="col">value</th><th scope="col">note</th></tr>'
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody>\n</table>"


def _plots(report: Report) -> str:
    from fidfast._report.plots import plots

    try:
        drawn = list(plots(report))
    except ImportError as error:
        sentence = f"plots need matplotlib: pip install matplotlib ({error})"
        warnings.warn(f"the report has no plots: {sentence}", stacklevel=2)
        return f"<p>There are none: {escape(sentence)}.</p>"
    figures = [
        f'<figure><img alt="{escape(plot.caption)}" src="{_uri("image/svg+xml", plot.svg.encode())}">'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
        for plot in drawn
    ]
    return '<div class="plots">\n' + "\n".join(figures) + "\n</div>"


def _samples(report: Report) -> str:
    if report.most_harmful is None:
        return f"<p>Not known: {escape(report.reasons['most_harmful'])}.</p>"
    intro = "<p>With how much each adds to the distance; the worst first.</p>"
    figures = "\n".join(_figures(report.most_harmful))
    return f'{intro}\n<div class="samples">\n{figures}\n</div>'


def _figures(samples: tuple[HarmfulSample, ...]) -> Iterator[str]:
    for sample in samples:
        picture = "" if sample.image is None else _picture(sample.image, sample.name)
        caption = f"<figcaption><b>{sample.influence:+.4g}</b><br>{escape(sample.name)}</figcaption>"
        yield f"<figure>{picture}{caption}</figure>"


def _picture(image: NDArray[np.uint8], name: str) -> str:
    """No larger than it is shown: as PNG where it is so small already, else as JPEG."""
    try:
        from PIL import Image
    except ImportError as error:
        warnings.warn(f"the report has no pictures: they need pillow: pip install pillow ({error})", stacklevel=2)
        return ""
    picture = Image.fromarray(image)
    small = max(picture.size) <= PICTURE
    if not small:
        picture.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "PNG") if small else picture.save(data, "JPEG", quality=85)
    kind = ' class="small"' if max(picture.size) <= PICTURE // 2 else ""
    uri = _uri("image/png" if small else "image/jpeg", data.getvalue())
    return f'<img{kind} alt="{escape(name)}" src="{uri}" width="{picture.width}" height="{picture.height}">'


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
