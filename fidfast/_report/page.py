"""A report as one self-contained HTML page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._report.contents import Contents, HarmfulSample, Row
from fidfast._report.plots import plots
from fidfast._warnings import warn_user

__all__ = ["html_page", "html_table"]

#: Longer side of an image on the page, in pixels.
IMAGE_SIDE = 192

_CSS = """
:root { color-scheme: light dark; --background: #fff; --text: #222; --muted: #666; --line: #ddd;
  --shade: #f6f1e7; --warning: #c77700; }
@media (prefers-color-scheme: dark) { :root { --background: #181818; --text: #ddd; --muted: #999; --line: #3a3a3a;
  --shade: #2a2519; } }
html { font-size: clamp(100%, 0.75rem + 0.4vw, 150%); }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; background: var(--background); color: var(--text);
  font: 1rem/1.4 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0.5rem 0; font-size: 1.6rem; }
header { margin-bottom: 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.1rem 0.75rem; margin: 0; font-size: 0.875rem; }
dt { color: var(--muted); }
dd { margin: 0; }
.warning { margin: 0.75rem 0 0; padding: 0.5rem 0.75rem; border-left: 0.25rem solid var(--warning);
  color: var(--text); background: var(--shade); }
h2 { margin: 2rem 0 0.5rem; font-size: 1.2rem; }
h2, p { break-after: avoid; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.75rem 0.35rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: baseline; }
tr > :last-child { padding-right: 0; }
th[scope=row] { font-weight: normal; }
th.part { padding-left: 1.25rem; }
td.value { white-space: nowrap; }
td.note, figcaption, p { color: var(--muted); font-size: 0.875rem; }
@media (min-width: 60rem) { th[scope=row] { white-space: nowrap; } }
figure { margin: 0; break-inside: avoid; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1.5rem; }
.plots img { width: 100%; height: auto; }
.samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); gap: 1.25rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0.25rem 0.5rem; align-items: start; }
.pair > :first-child:last-child { grid-column: 1 / -1; }
.pair img { box-sizing: border-box; width: 100%; height: auto; max-height: 12rem; object-fit: contain;
  border: 1px solid var(--line); }
.samples b { color: var(--text); }
img.small { image-rendering: pixelated; }
@media (max-width: 40rem) { td.note { display: block; padding-top: 0; } tr { display: grid; border-bottom: 1px solid
  var(--line); grid-template-columns: 1fr auto; } th, td { border: 0; } td.note { grid-column: 1 / -1; }
  thead { display: none; } }
@media print { body { max-width: none; padding: 0; } .plots { grid-template-columns: repeat(3, 1fr); } }
"""


def html_page(contents: Contents) -> str:
    """The page as text."""
    title = f"{contents.headline}: {contents.titles[0]} against {contents.titles[1]}"
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
{_header(contents)}
{html_table(contents.rows())}
<h2>Plots</h2>
{_plots(contents)}
<h2>Most harmful samples</h2>
{_samples(contents)}
</body>
</html>
"""


def _header(contents: Contents) -> str:
    """The headline, what was compared, when and how, and what limits the numbers."""
    entries = {
        "samples": contents.titles[0],
        "reference": contents.titles[1],
        "date": contents.created,
        "command": contents.command,
        "version": f"fidfast {_core.__version__}",
    }
    lines = "\n".join(
        f"<dt>{name}</dt><dd>{f'<code>{escape(text)}</code>' if name == 'command' else escape(text)}</dd>"
        for name, text in entries.items()
        if text
    )
    warnings = "".join(f'\n<p class="warning">{escape(text)}</p>' for text in contents.warnings())
    return f"<header>\n<h1>{escape(contents.headline)}</h1>\n<dl>\n{lines}\n</dl>{warnings}\n</header>"


def html_table(rows: Iterable[Row], caption: str = "") -> str:
    """The rows as an HTML table; text is aligned to the left, also in notebooks."""
    left = 'style="text-align:left"'
    lines = ["<table>", f"<caption>{escape(caption)}</caption>"] if caption else ["<table>"]
    head = "".join(f'<th scope="col" {left}>{name}</th>' for name in ("metric", "value", "note"))
    lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in rows:
        indented = ' class="part"' if row.name.startswith(" ") else ""
        lines.append(
            f'<tr><th scope="row"{indented} {left}>{escape(row.name.strip())}</th>'
            f'<td class="value" {left}>{escape(row.value or "–")}</td>'
            f'<td class="note" {left}>{escape(row.note)}</td></tr>'
        )
    return "\n".join([*lines, "</tbody>", "</table>"])


def _plots(contents: Contents) -> str:
    try:
        drawn = list(plots(contents))
    except ImportError as error:
        reason = f"plots need matplotlib: pip install matplotlib ({error})"
        warn_user(f"the report has no plots: {reason}")
        return f"<p>Not available: {escape(reason)}.</p>"
    figures = [
        f'<figure><img alt="{escape(plot.caption)}" src="{_uri("image/svg+xml", plot.svg.encode())}">'
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
        for plot in drawn
    ]
    return '<div class="plots">\n' + "\n".join(figures) + "\n</div>"


def _samples(contents: Contents) -> str:
    if contents.most_harmful is None:
        return f"<p>Not available: {escape(contents.reasons['most_harmful'])}.</p>"
    figures = "\n".join(_figures(contents.most_harmful))
    missing = f"\n<p>Images {escape(contents.reasons['images'])}</p>" if "images" in contents.reasons else ""
    return f'<p>{_intro(contents.most_harmful)}</p>{missing}\n<div class="samples">\n{figures}\n</div>'


def _intro(samples: tuple[HarmfulSample, ...]) -> str:
    """What is listed."""
    if not samples:
        return "None was requested."
    text = "Each number is what the sample adds to the distance; the worst sample is first."
    if any(sample.alike for sample in samples):
        text += " Almost equal samples are shown once."
    if any(sample.nearest is not None for sample in samples):
        text += " To the right of each sample is the nearest one of the reference."
    return text


def _figures(samples: tuple[HarmfulSample, ...]) -> Iterator[str]:
    """A sample, and the nearest one of the reference beside it."""
    for sample in samples:
        alike = f"<br>{escape(sample.alike_text)}" if sample.alike else ""
        parts = [_figure(sample.image, sample.name, f"<b>{sample.influence:+.4g}</b><br>{escape(sample.name)}{alike}")]
        if sample.nearest is not None:
            nearest = sample.nearest
            parts.append(_figure(nearest.image, nearest.name, f"nearest<br>{escape(nearest.name)}"))
        yield '<div class="pair">' + "".join(parts) + "</div>"


def _figure(image: NDArray[np.uint8] | None, name: str, caption: str) -> str:
    picture = "" if image is None else _image(image, name)
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _image(pixels: NDArray[np.uint8], name: str) -> str:
    """An image at its size on the page: PNG if it is that small already, else a scaled JPEG."""
    try:
        from PIL import Image
    except ImportError as error:
        warn_user(f"the report has no images: they need pillow: pip install pillow ({error})")
        return ""
    image = Image.fromarray(pixels)
    small = max(image.size) <= IMAGE_SIDE
    if not small:
        image.thumbnail((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "PNG") if small else image.save(data, "JPEG", quality=85)
    pixelated = ' class="small"' if max(image.size) <= IMAGE_SIDE // 2 else ""
    uri = _uri("image/png" if small else "image/jpeg", data.getvalue())
    return f'<img{pixelated} alt="{escape(name)}" src="{uri}" width="{image.width}" height="{image.height}">'


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
