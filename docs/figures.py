"""Plots and tables of the documentation, from the files in ``benchmarks/results``.

``conf.py`` calls `write` at every build. Each plot is written for light and for dark pages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker
from matplotlib.figure import Figure

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
FOLDER = Path(__file__).parent / "figures"

#: Text and grid of plots for light and for dark pages.
INK = {"light": "#222832", "dark": "#ced6dd"}

#: Of Okabe & Ito (2008), which colour-blind people can distinguish, in tones that are legible on both pages.
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0e7fc1", "#e0701a", "#0fa37c", "#c777a6", "#56b4e9"

TOOLS = {"fidfast": BLUE, "pytorch-fid": ORANGE, "torch-fidelity": GREEN, "torchmetrics": PURPLE}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def machines() -> dict[str, dict[str, Any]]:
    """Results of ``benchmarks.speed`` by the name of the machine."""
    paths = [path for path in sorted(RESULTS.glob("*.json")) if "speed_ups" in json.loads(path.read_text("utf-8"))]
    found = [load(path.stem) for path in paths]
    return {f"{result['machine']['cpu']}, {result['machine']['cores']} cores": result for result in found}


def write() -> None:
    """Write all plots and tables."""
    FOLDER.mkdir(exist_ok=True)
    plots: dict[str, Callable[[], Figure]] = {
        "speed": speed_ups,
        "accuracy": accuracy,
        "coverage": coverage,
        "bias": bias,
        "scale": scale,
    }
    for name, plot in plots.items():
        for page, ink in INK.items():
            colours = dict.fromkeys(
                ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), ink
            )
            style = {**colours, "font.size": 10, "axes.titlesize": 11, "svg.hashsalt": name, "grid.color": ink}
            with matplotlib.rc_context(style):
                plot().savefig(FOLDER / f"{name}-{page}.svg", transparent=True, metadata={"Date": None})
    (FOLDER / "speed.md").write_text(speed_table(), encoding="utf-8")
    (FOLDER / "machines.md").write_text(machine_table(), encoding="utf-8")
    (FOLDER / "accuracy.md").write_text(accuracy_table(), encoding="utf-8")


def clean(axis: Any) -> None:
    axis.grid(alpha=0.2, which="major")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


# Speed ----------------------------------------------------------------------------------------------------------------


def tasks(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Task and line; "the same" is written out, so that a line can stand alone."""
    named, task = [], ""
    for line in result["speed_ups"]:
        rest = line["task"].removeprefix("the same")
        if rest == line["task"]:
            task = rest
        elif rest:
            rest = task.removesuffix(", same result") + rest
        named.append((rest or task, line))
    return named


def speed_ups() -> Figure:
    """Time of the other tool divided by that of fidfast, on the machine with most tasks."""
    result = max(machines().values(), key=lambda found: len(found["speed_ups"]))
    others = [(task, line) for task, line in tasks(result) if not line["tool"].startswith(("fidfast", "one process"))]
    lines = sorted(((f"{task}\n{line['tool']}", line["speed_up"]) for task, line in others), key=lambda item: item[1])
    figure = Figure(figsize=(8, 0.48 * len(lines) + 1), layout="constrained")
    axis = figure.subplots()
    bars = axis.barh([name for name, _ in lines], [value for _, value in lines], color=BLUE, height=0.62)
    axis.bar_label(bars, [f"{value:.1f}" for _, value in lines], padding=3, fontsize=9)
    axis.set_xscale("log")
    axis.set_xlim(left=1, right=2 * lines[-1][1])
    axis.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.margins(y=0.01)
    axis.tick_params(axis="y", labelsize=8, length=0)
    axis.set(xlabel="time of the other tool / time of fidfast", title=result["machine"]["cpu"])
    clean(axis)
    axis.grid(visible=False, axis="y")
    return figure


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def speed_table() -> str:
    """Times and speed-ups of every machine."""
    text = []
    for name, result in machines().items():
        rows = [
            [task, line["tool"], seconds(line["tool_s"]), seconds(line["fidfast_s"]), f"{line['speed_up']:.1f}"]
            for task, line in tasks(result)
        ]
        head = ("task", "compared with", "time of that", "time of fidfast", "ratio")
        text.append(f"### {name}\n\n{table(head, rows)}")
    return "\n".join(text)


def machine_table() -> str:
    """Versions that were measured."""
    found = machines()
    packages = sorted({name for result in found.values() for name in result["machine"]["packages"]} - {"fidfast"})
    rows = [[name, *(result["machine"]["packages"].get(name, "") for result in found.values())] for name in packages]
    rows.insert(0, ["Python", *(result["machine"]["python"] for result in found.values())])
    return table(["", *found], rows)


# Accuracy -------------------------------------------------------------------------------------------------------------


def errors() -> list[dict[str, str]]:
    paths = sorted(RESULTS.glob("accuracy-*.json"))
    found: list[dict[str, str]] = max((load(path.stem)["errors"] for path in paths), key=len)
    return found


def accuracy_table() -> str:
    lines = errors()
    return table(lines[0], (line.values() for line in lines))


def accuracy() -> Figure:
    """Error of the distance relative to the traces, by case and tool, with the bound of fidfast."""
    lines = errors()
    figure = Figure(figsize=(8, 0.5 * len(lines) + 1.6), layout="constrained")
    axis = figure.subplots()
    smallest = 1e-17
    for row, line in enumerate(lines):
        bound = float(line["its bound"].split()[0])
        axis.plot([smallest / 3, bound], [row, row], color=BLUE, linewidth=9, alpha=0.15, solid_capstyle="butt")
        for number, (tool, colour) in enumerate(TOOLS.items()):
            value = float(line[tool].split()[0])
            marker = "o" if tool == "fidfast" else "d"
            height = row + 0.14 * (number - 1.5)  # equal errors do not hide each other
            axis.plot(max(value, smallest), height, marker, color=colour, markersize=6)
    for tool, colour in TOOLS.items():
        axis.plot([], [], "o" if tool == "fidfast" else "d", color=colour, label=tool)
    axis.plot([], [], color=BLUE, linewidth=9, alpha=0.15, label="below the bound of fidfast")
    axis.set_xscale("log")
    axis.set_xlim(smallest / 3, 1e-5)
    axis.set_yticks(range(len(lines)), [line["case"] for line in lines])
    axis.invert_yaxis()
    axis.set(xlabel="error of the distance / sum of the traces (errors below 1e-17 are drawn at 1e-17)")
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    clean(axis)
    return figure


# Error bars and bias --------------------------------------------------------------------------------------------------


def _uncertainty() -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for path in sorted(RESULTS.glob("uncertainty-*.json")):
        lines += load(path.stem)["lines"]
    return [line for line in lines if line["dim"] == 64 and "equal" not in line["distribution"]]


def coverage() -> Figure:
    """Share of the 95 % intervals that contain the exact distance."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, reference in zip(axes, ("exact", "sampled"), strict=True):
        kinds = [line for line in _uncertainty() if line["reference"] == reference]
        for name, colour in zip(sorted({line["distribution"] for line in kinds}), TOOLS.values(), strict=False):
            points = sorted((line["rows_per_dim"], line["coverage"]) for line in kinds if line["distribution"] == name)
            axis.plot(*zip(*points, strict=True), "o-", color=colour, label=name)
        axis.axhline(0.95, color=INK["light"], alpha=0.5, linestyle="--")
        axis.set(xscale="log", xlabel="rows / dim", title=f"reference {reference}")
        axis.set_xticks([2, 5, 10], ["2", "5", "10"])
        axis.minorticks_off()
        clean(axis)
    axes[0].set_ylabel("coverage of the 95 % interval")
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def bias() -> Figure:
    """Bias of the distance as reported by other tools, and what is left of it."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axis = figure.subplots()
    kinds = [line for line in _uncertainty() if line["reference"] == "sampled"]
    for name, colour in zip(sorted({line["distribution"] for line in kinds}), TOOLS.values(), strict=False):
        lines = sorted((line for line in kinds if line["distribution"] == name), key=lambda line: line["rows_per_dim"])
        ratio = [line["rows_per_dim"] for line in lines]
        axis.plot(ratio, [100 * line["bias"] / line["distance"] for line in lines], "o-", color=colour, label=name)
        left = [100 * line["bias"] * (1 - line["bias removed"]) / line["distance"] for line in lines]
        axis.plot(ratio, left, "s:", color=colour, label=f"{name}, after the correction")
    axis.set(xscale="log", xlabel="rows / dim", ylabel="bias, % of the exact distance")
    axis.set_xticks([2, 5, 10], ["2", "5", "10"])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=9)
    clean(axis)
    return figure


# Scale ----------------------------------------------------------------------------------------------------------------


def scale() -> Figure:
    """Time and memory of moments over the number of rows."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    found = load(min(path.stem for path in RESULTS.glob("scale-*.json")))["over_samples"]
    for (dim, each), colour in zip(found.items(), TOOLS.values(), strict=False):
        n = [point["n"] for point in each["points"]]
        axes[0].loglog(n, [point["seconds"] for point in each["points"]], "o-", color=colour, label=f"dim {dim}")
        axes[1].semilogx(n, [point["bytes"] / 1e6 for point in each["points"]], "o-", color=colour, label=f"dim {dim}")
    axes[0].set(xlabel="rows", ylabel="seconds", title="time of the moments of a stream")
    axes[1].set(xlabel="rows", ylabel="MB", title="peak memory above that before", ylim=(0, None))
    for axis in axes:
        axis.legend(frameon=False)
        clean(axis)
    return figure
