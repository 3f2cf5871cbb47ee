"""All results on one page, as HTML and as the README of this folder."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from benchmarks.gans import experiment
from benchmarks.gans.experiment import Stored

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
img { max-width: 100%; height: auto } table { border-collapse: collapse; margin: 1rem 0 }
th, td { border-bottom: 1px solid #ddd; padding: .25rem .8rem .25rem 0; text-align: left; vertical-align: top }
.holds { color: #176d2c } .fails { color: #a11 } .quick { background: #fff3cd; padding: .3rem .6rem }
small { color: #666 }
"""

#: Folder of the committed plots, relative to the README.
PLOTS = Path("../results/gans")

_INTRODUCTION = (
    "The Fréchet Inception Distance was introduced to show that generative adversarial networks trained with two time "
    "scales converge. These experiments repeat that paper's, and those of two papers on the convergence of adversarial "
    "training, with fidfast as the instrument. None of the networks, data sets or extractors below is the papers' own "
    "unless it says so: the distances are comparable within an experiment only, and none is an FID."
)

_MARKS = (
    "How the paper's numbers are known: read (in the paper or its repository), derived (from its formulas), checked "
    "(numerically), remembered (not verified)."
)


def results(folder: Path) -> list[Stored]:
    """The result of each experiment: in `folder` full before quick, else the committed one."""
    places = [(folder, "full"), (folder, "quick"), (experiment.COMMITTED, "full")]
    candidates = ([experiment.read(where, name, preset) for where, preset in places] for name in experiment.NAMES)
    return [next(filter(None, stored)) for stored in candidates if any(stored)]


def committed() -> list[Stored]:
    """The results of the full presets that belong to the source tree."""
    found = [experiment.read(experiment.COMMITTED, name, "full") for name in experiment.NAMES]
    return [stored for stored in found if stored is not None]


def write(folder: Path, *, markdown: Path | None = None) -> Path:
    """Write ``report.html`` into the folder, and optionally the committed results as Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    path.write_text(page(results(folder)))
    if markdown is not None:
        markdown.write_text(as_markdown(committed(), plots=PLOTS))
    return path


def page(found: list[Stored]) -> str:
    """One HTML file with all plots in it."""
    sections = "".join(map(_section, found))
    contents = "".join(
        f'<li><a href="#{stored.name}">{html.escape(_title(stored))}</a>: {html.escape(stored.module.CLAIM)}</li>'
        for stored in found
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Training experiments</title>'
        f"<style>{_STYLE}</style></head><body><h1>Training experiments</h1><p>{html.escape(_INTRODUCTION)}</p>"
        f"<ol>{contents}</ol><p><small>{html.escape(_MARKS)}</small></p>{sections}</body></html>\n"
    )


def _title(stored: Stored) -> str:
    """First line of the module's docstring."""
    return str(stored.module.__doc__).splitlines()[0].rstrip(".")


def _section(stored: Stored) -> str:
    module, result = stored.module, stored.result
    png = stored.plot_path.read_bytes() if stored.plot_path.exists() else experiment.plot_bytes(stored)
    sentences = "".join(
        f'<li class="{"holds" if each.holds else "fails"}">{"Holds" if each.holds else "Does not hold"}: '
        f"{html.escape(each.text)}{_small(each.margin)}</li>"
        for each in module.claim(result)
    )
    rows = "".join(
        f"<tr><td>{html.escape(each.quantity)}</td><td>{html.escape(each.paper)}{_small(each.mark)}</td>"
        f"<td>{html.escape(each.ours)}</td></tr>"
        for each in module.figures(result)
    )
    table = f"<table><tr><th></th><th>paper</th><th>here</th></tr>{rows}</table>" if rows else ""
    quick = (
        '<p class="quick">Quick preset: too short to show what the paper shows.</p>' if stored.preset == "quick" else ""
    )
    return (
        f'<h2 id="{stored.name}">{html.escape(_title(stored))}</h2>{quick}<p>{html.escape(module.summary(result))}</p>'
        f'<p><img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{html.escape(_title(stored))}"></p>'
        f"<ul>{sentences}</ul>{table}<p><small>{html.escape(module.PAPER)}. {html.escape(_circumstances(stored))}"
        "</small></p>"
    )


def _small(text: str) -> str:
    return f" <small>({html.escape(text)})</small>" if text else ""


def _circumstances(stored: Stored) -> str:
    minutes, machine = stored.seconds / 60, stored.machine
    duration = f"{minutes:.0f} min" if minutes >= 2 else f"{stored.seconds:.0f} s"
    changed = ", ".join(f"{key}={value}" for key, value in stored.changed_settings.items())
    return (
        f"{duration} on {machine['cpu']}, {machine['cores']} cores, torch {machine['packages']['torch']}"
        + (f"; the preset {stored.preset} with {changed}" if changed else "")
        + ("; committed result." if stored.folder == experiment.COMMITTED else ".")
    )


def _cell(text: str) -> str:
    """Text of a cell of a Markdown table."""
    return text.replace("|", "\\|")


def as_markdown(found: list[Stored], *, plots: Path) -> str:
    """The same as Markdown, with plots as links relative to `plots`."""
    parts = [
        "# Training experiments",
        _INTRODUCTION,
        "```\npython -m benchmarks.gans list\npython -m benchmarks.gans run NAME [--full] [--seeds N] [--resume]\n"
        "python -m benchmarks.gans report\n```",
        "This page is written by `python -m benchmarks.gans report --markdown benchmarks/gans/README.md`; all numbers "
        "come from the JSON files in `benchmarks/results/gans`. " + _MARKS,
    ]
    for number, stored in enumerate(found, 1):
        module, result = stored.module, stored.result
        parts += [f"## {number}. {_title(stored)}", module.summary(result)]
        parts.append(f"![{_title(stored)}]({(plots / stored.plot_path.name).as_posix()})")
        claims = [
            f"- {'Holds' if each.holds else '**Does not hold**'}: {each.text}"
            + (f" ({each.margin})" if each.margin else "")
            for each in module.claim(result)
        ]
        parts.append("\n".join(claims))
        figures = module.figures(result)
        marks = [f" [{each.mark}]" if each.mark else "" for each in figures]
        rows = [
            f"| {_cell(each.quantity)} | {_cell(each.paper)}{mark} | {_cell(each.ours)} |"
            for each, mark in zip(figures, marks, strict=True)
        ]
        if rows:
            parts.append("\n".join(["| | paper | here |", "|---|---|---|", *rows]))
        parts.append(f"{module.PAPER}. {_circumstances(stored)}")
    return "\n\n".join(parts) + "\n"
