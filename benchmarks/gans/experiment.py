"""What an experiment consists of, and how its results are stored.

An experiment is a module of this package with these names:

``CLAIM``
    The paper's claim in one line, for ``list``.
``PAPER``
    Authors, year and arXiv number.
``Settings``
    A frozen dataclass with at least ``seeds: int``. ``QUICK`` and ``FULL`` are its two presets.
``Result``
    A frozen dataclass of JSON types (numbers that are finite, strings, bools, None, lists, dicts with string keys).
    Its first field, ``settings``, is the dict of the settings.
``run(settings, work) -> Result``
    Divides the experiment into parts, which `Work.map` computes, stores and resumes.
``plot(result) -> matplotlib Figure``
    Stored as a PNG.
``claim(result) -> list[Sentence]``
    What the paper claims, sentence by sentence, with whether it holds in this result.
``figures(result) -> list[Figure]``
    The paper's numbers beside those of the result.
``summary(result) -> str``
    A paragraph: the paper's claim, what was done, what came out. Its numbers are formatted from the result.
"""

from __future__ import annotations

import importlib
import io
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import machine
from benchmarks.gans.work import replace_file

#: Results of the full presets, which the report shows unless there are newer ones.
COMMITTED = machine.RESULTS / "gans"

#: The experiments, in the order of the report.
NAMES = (
    "saddle_point",
    "dirac_gan",
    "games",
    "adam_friction",
    "dcgan",
    "wgan_gp",
    "text",
    "gradient_penalty",
    "disturbances",
    "streaming",
)

#: The paper of several experiments.
HEUSEL = "Heusel, Ramsauer, Unterthiner, Nessler & Hochreiter 2017, arXiv 1706.08500"

#: Maximum size of a plot in bytes.
MAX_PLOT = 150_000


class InvalidArgumentError(Exception):
    """An argument of the command line that cannot be used."""


@dataclass(frozen=True)
class Sentence:
    """A claim of the paper as one sentence, and whether it holds in a result."""

    text: str
    holds: bool
    #: Where the margin in the sentence comes from: a derivation, or the measured spread over seeds.
    margin: str = ""


@dataclass(frozen=True)
class Figure:
    """A number of the paper beside the number of a result."""

    quantity: str
    paper: str
    ours: str
    #: How the paper's number is known: "read" in the paper or its repository, "derived" from its formulas, "checked"
    #: numerically, or "remembered", that is, not verified. An empty string if the paper has no such number.
    mark: str = ""


@dataclass(frozen=True)
class Stored:
    """A result and the circumstances of its run."""

    name: str
    result: Any
    preset: str
    seconds: float
    machine: dict[str, Any]
    #: Folder of the JSON file and of the plot.
    folder: Path

    @property
    def module(self) -> ModuleType:
        """The module of the experiment."""
        return load(self.name)

    @property
    def plot_path(self) -> Path:
        """The PNG, which has the name of the JSON file."""
        return self.folder / f"{file_stem(self.name, self.preset)}.png"

    @property
    def changed_settings(self) -> dict[str, Any]:
        """Settings that differ from those of the preset, in JSON types."""
        preset = json_types(asdict(settings_of(self.module, full=self.preset == "full", seeds=None)))
        return {key: value for key, value in self.result.settings.items() if preset.get(key) != value}


def module_name(name: str) -> str:
    """Name of the module of an experiment, whose name may be written with dashes.

    Raises
    ------
    InvalidArgumentError
        If there is no such experiment.
    """
    module = name.replace("-", "_")
    if module not in NAMES:
        names = ", ".join(map(shown_name, NAMES))
        raise InvalidArgumentError(f"there is no experiment {name!r}; the experiments are {names}")
    return module


def load(name: str) -> ModuleType:
    """The module of an experiment."""
    return importlib.import_module(f"benchmarks.gans.{module_name(name)}")


def shown_name(name: str) -> str:
    """Name of an experiment on the command line and in reports."""
    return name.replace("_", "-")


def file_stem(name: str, preset: str) -> str:
    """Name of the files of a result, without extension."""
    return shown_name(name) + ("" if preset == "full" else f"-{preset}")


def settings_of(module: ModuleType, *, full: bool, seeds: int | None) -> Any:
    """A preset of an experiment, with another number of seeds if one is given.

    Raises
    ------
    InvalidArgumentError
        If `seeds` is less than 1.
    """
    settings = module.FULL if full else module.QUICK
    if seeds is None:
        return settings
    if seeds < 1:
        raise InvalidArgumentError(f"seeds must be at least 1, got {seeds}")
    return replace(settings, seeds=seeds)


def write(folder: Path, name: str, result: Any, *, preset: str, seconds: float) -> Stored:
    """Write the JSON and the plot of a result, and the time of the run to ``times.json``.

    The result that is returned, and from which claim and plot are computed, is that in the file.
    """
    fields = json_types(asdict(result))
    stored = Stored(name, load(name).Result(**fields), preset, seconds, machine.description(), folder)
    sentences = [asdict(sentence) for sentence in stored.module.claim(stored.result)]
    plot = plot_bytes(stored)
    text = json.dumps(
        {
            "experiment": name,
            "preset": preset,
            "seconds": round(seconds, 1),
            "machine": stored.machine,
            "claim": sentences,
            "result": fields,
        },
        allow_nan=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / f"{file_stem(name, preset)}.json", _wrapped(text).encode())
    replace_file(stored.plot_path, plot)
    if not stored.changed_settings:
        times = read_times(folder)
        times.setdefault(shown_name(name), {})[preset] = round(seconds, 1)
        replace_file(folder / "times.json", (json.dumps(times, indent=1, sort_keys=True) + "\n").encode())
    return stored


def read(folder: Path, name: str, preset: str) -> Stored | None:
    """The result in a folder, or None if there is none.

    Raises
    ------
    ValueError
        If another version of the experiment wrote it.
    """
    path = folder / f"{file_stem(name, preset)}.json"
    if not path.exists():
        return None
    fields = json.loads(path.read_text())
    try:
        result = load(name).Result(**fields["result"])
    except TypeError as error:
        raise ValueError(f"{path} was written by another version of the experiment: run it again") from error
    return Stored(name, result, preset, fields["seconds"], fields["machine"], folder)


def read_times(folder: Path) -> dict[str, dict[str, float]]:
    """Seconds that each preset of each experiment took."""
    path = folder / "times.json"
    return json.loads(path.read_text()) if path.exists() else {}


def plot_bytes(stored: Stored) -> bytes:
    """The plot of a result as a PNG with a palette, which is a third of the size.

    Raises
    ------
    ValueError
        If it has more than `MAX_PLOT` bytes.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    figure = stored.module.plot(stored.result)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, metadata={"Software": None})
    plt.close(figure)
    palette = io.BytesIO()
    Image.open(buffer).convert("RGB").quantize(128).save(palette, format="PNG", optimize=True)
    png = palette.getvalue()
    if len(png) > MAX_PLOT:
        raise ValueError(f"the plot of {stored.name} has {len(png)} bytes, at most {MAX_PLOT} are allowed")
    return png


def json_types(value: Any) -> Any:
    """JSON types, with floats of 9 significant digits."""
    if isinstance(value, dict):
        return {str(key): json_types(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_types(each) for each in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _wrapped(text: str) -> str:
    """JSON in lines of about 120 characters, so that changes can be compared; no string is broken."""
    pieces = re.split(r'("(?:[^"\\]|\\.)*"|, )', text)
    lines, line = [], ""
    for piece in pieces:
        if piece == ", " and len(line) > 110:
            lines.append(line + ",")
            line = ""
        else:
            line += piece
    return "\n".join([*lines, line]) + "\n"
