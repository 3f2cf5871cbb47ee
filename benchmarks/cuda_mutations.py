"""Do the tests of the CUDA half notice its faults? Seeds them one at a time, and runs the tests on what comes out.

    python -m benchmarks.cuda_mutations              # those that have no result yet
    python -m benchmarks.cuda_mutations --survivors  # again, those that no test has noticed
    python -m benchmarks.cuda_mutations --only "uplo"

Each mutant is a copy of csrc with one edit. Of it is compiled what the edit touches, as PTX of one architecture, and
the tests of tests/cuda that need the extension run on it until one fails. Results are kept as they come, in
benchmarks/results/cuda_mutations.json; cuda_mutations.md is made of them.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from benchmarks.cuda_mutants import Mutant, mutants

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "csrc"
RESULTS = ROOT / "benchmarks/results/cuda_mutations.json"
REPORT = RESULTS.with_suffix(".md")
WORKSHOP = ROOT / "build/cuda-mutations"
SECONDS = 900

#: Tests that need the extension, in this order; those that know most of the mutated file come before them.
TESTS = (
    "streams",
    "updates",
    "rank_update",
    "threads",
    "halves",
    "digits",
    "what_is_rejected",
    "nothing_left_behind",
    "laws_of_distances",
    "laws",
    "values",
    "faults",
    "availability",
    "libraries",
    "faults_of_distances",
)
FIRST = {
    "core/": ("faults", "updates", "streams"),
    "bindings/": ("streams", "what_is_rejected", "updates", "faults"),
    "cuda/kernels": ("kernel_shapes", "laws", "laws_of_distances"),
    "cuda/context": ("threads", "nothing_left_behind", "availability", "streams", "faults"),
    "cuda/device": ("nothing_left_behind", "streams", "faults"),
    "cuda/libraries": ("libraries", "availability"),
    "cuda/watch": ("what_is_rejected", "updates"),
    "cuda/rows": ("laws", "digits", "updates"),
    "cuda/elements": ("digits", "laws_of_distances", "laws"),
    "cuda/linalg": ("laws_of_distances",),
    "cuda/pivoted_cholesky": ("laws_of_distances",),
    "cuda/rank_update": ("rank_update",),
}
_UNITS = [f"cuda/{path.name}" for path in sorted((SOURCE / "cuda").glob("*.c*")) if path.suffix in {".cpp", ".cu"}]
_BINDING = "bindings/cuda.cpp"


class Builder:
    """Compiles and links; what a mutant leaves as it was is compiled once."""

    def __init__(self, prefix: list[str]):
        sys.path.insert(0, str(ROOT / "tests/cuda"))
        import pybind11
        from standin_build import cuda_headers

        self.prefix = prefix
        self.headers = cuda_headers()
        self.includes = [sysconfig.get_paths()["include"], pybind11.get_include()]
        self.base = WORKSHOP / "base"

    def run(self, *command: object) -> None:
        done = subprocess.run([*self.prefix, *map(str, command)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")

    def compile(self, unit: str, source: Path, target: Path) -> None:
        """A unit of the extension from the sources in a folder; beside it, a file that tells what it includes."""
        target.parent.mkdir(parents=True, exist_ok=True)
        language = ["-std=c++17", "-O1", "-I", source, "-MD", "-MF", target.with_suffix(".d")]
        if unit.endswith(".cu"):
            host = "-Xcompiler=-fPIC,-fvisibility=hidden"
            architecture = "-gencode=arch=compute_80,code=compute_80"
            command = ["nvcc", "--extended-lambda", "--expt-relaxed-constexpr", architecture, host]
        else:
            folders = [option for folder in (self.headers, *self.includes) for option in ("-isystem", folder)]
            defined = [
                f'-DFIDFAST_VERSION="{metadata.version("fidfast")}"',
                '-DFIDFAST_CUDA_ARCHITECTURES="80-virtual"',
            ]
            command = ["g++", "-fPIC", "-fvisibility=hidden", *folders, *defined]
        self.run(*command, *language, "-c", source / unit, "-o", target)

    def prepare(self) -> None:
        """Compiles what mutants share, unless these very sources were before."""
        digest = hashlib.sha256()
        for path in sorted(path for path in SOURCE.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(SOURCE)}\0".encode() + path.read_bytes())
        mark = self.base / "digest"
        if mark.is_file() and mark.read_text(encoding="utf-8") == digest.hexdigest():
            return
        shutil.rmtree(self.base, ignore_errors=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda unit: self.compile(unit, SOURCE, self.base / f"{unit}.o"), [*_UNITS, _BINDING]))
        mark.write_text(digest.hexdigest(), encoding="utf-8")

    def touched(self, file: str) -> list[str]:
        """The units that include a file. Templates of core/ come to life in the binding only."""
        if file.startswith("core/"):
            return [_BINDING]
        units = [*_UNITS, _BINDING]
        return [unit for unit in units if f"csrc/{file}" in (self.base / f"{unit}.d").read_text(encoding="utf-8")]

    def build(self, mutant: Mutant | None, folder: Path) -> None:
        """`folder`/fidfast becomes the package with the mutant's extension."""
        objects = {unit: self.base / f"{unit}.o" for unit in [*_UNITS, _BINDING]}
        if mutant is not None:
            source = folder / "csrc"
            shutil.copytree(SOURCE, source)
            (source / mutant.file).write_text(mutated(mutant), encoding="utf-8")
            for unit in self.touched(mutant.file):
                objects[unit] = folder / f"{unit}.o"
                self.compile(unit, source, objects[unit])
        package = folder / "fidfast"
        package.mkdir(parents=True)
        installed = importlib.util.find_spec("fidfast")
        core = importlib.util.find_spec("fidfast._core")
        if installed is None or core is None or core.origin is None:
            raise RuntimeError("fidfast is not installed")
        for entry in (ROOT / "fidfast").iterdir():
            (package / entry.name).symlink_to(entry)
        (package / Path(core.origin).name).symlink_to(core.origin)
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        runtime = self.headers.parent / "lib"
        self.run(
            "g++", "-shared", *objects.values(), "-L", runtime, "-lcudart", "-ldl", "-o", package / f"_cuda{suffix}"
        )  # fmt: skip
        # What an editable install puts before everything else would import its own extension.
        (folder / "sitecustomize.py").write_text(
            "import sys\n"
            "sys.meta_path[:] = [f for f in sys.meta_path if not hasattr(f, 'known_wheel_files')]\n"
            "if 'fidfast' in sys.modules: raise SystemExit('fidfast is imported too early')\n",
            encoding="utf-8",
        )


def mutated(mutant: Mutant) -> str:
    """The text of its file with the edit."""
    text = (SOURCE / mutant.file).read_text(encoding="utf-8")
    if (count := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant.name}: {count} places in {mutant.file} to edit")
    return text.replace(mutant.old, mutant.new)


def tests_for(file: str) -> list[str]:
    first = next((names for start, names in FIRST.items() if file.startswith(start)), ())
    names = [*first, *(name for name in TESTS if name not in first)]
    return [f"tests/cuda/test_{name}.py" for name in names if (ROOT / f"tests/cuda/test_{name}.py").is_file()]


def run_tests(folder: Path, file: str, prefix: list[str]) -> dict[str, str]:
    """Whether a test fails on the package in a folder; which, and why."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "300", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["FIDFAST_CSRC"] = str(folder / "csrc" if file else SOURCE)
    where = "import fidfast._core, importlib.util as u; print(u.find_spec('fidfast._cuda').origin)"
    found = subprocess.run([sys.executable, "-c", where], capture_output=True, text=True, env=environment, cwd="/",
                           check=True)  # fmt: skip
    if not found.stdout.startswith(str(folder)):
        raise RuntimeError(f"{found.stdout.strip()} would be tested, and not what lies in {folder}")
    # Those of the host have nothing to tell; the same law is stated of the device.
    options = ["-x", "-q", "--tb=short", "-rfE", "-p", "no:cacheprovider", "-k", "not cpu"]
    command = [*prefix, sys.executable, "-m", "pytest", *options, *tests_for(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
                               env=environment, start_new_session=True)  # fmt: skip
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return {"outcome": "killed", "by": "", "reason": f"the tests do not end within {SECONDS} s"}
    if process.returncode == 0:
        return {"outcome": "survived", "by": "", "reason": ""}
    return {"outcome": "killed", **cause(output)}


def cause(output: str) -> dict[str, str]:
    """Which test has failed in pytest's output, and its reason in a line."""
    failed = re.search(r"^(?:FAILED|ERROR) tests/cuda/(.+?)(?: - |$)", output, re.MULTILINE)
    if failed:
        errors = re.findall(r"^E +(?!\+)(.*\S)", output, re.MULTILINE)
        telling = [line for line in errors if re.search(r"\w*(Error|Fault|Warning)\b", line)] or errors
        # What has failed holds on to its memory, so that this comes with many a failure.
        first = [line for line in telling if "the test leaks" not in line] or telling
        return {"by": failed.group(1), "reason": first[0][:220] if first else ""}
    crash = re.search(r"Fatal Python error: (.*)", output)
    place = re.search(r'/(test_\w+\.py)", line \d+ in (test_\w+)', output)
    if crash:
        return {"by": "::".join(place.groups()) if place else "", "reason": crash.group(1)}
    raise RuntimeError(f"the tests have not run:\n{output[-3000:]}")


def key_of(mutant: Mutant) -> str:
    """Of the edited file, without which a result is out of date."""
    return hashlib.sha256(f"{mutant.file}\0{mutated(mutant)}".encode()).hexdigest()[:16]


class Results:
    """By name of the mutant, written as they come."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        names = {mutant.name for mutant in mutants()}
        self.by_name = {name: result for name, result in known.items() if name in names}

    def has(self, mutant: Mutant) -> bool:
        return bool(self.by_name.get(mutant.name, {}).get("key") == key_of(mutant))

    def add(self, mutant: Mutant, result: dict[str, str]) -> None:
        with self.lock:
            self.by_name[mutant.name] = {"file": mutant.file, **result, "key": key_of(mutant)}
            RESULTS.write_text(json.dumps(self.by_name, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


def report(everything: list[Mutant], results: Results) -> str:
    done = [(mutant, results.by_name[mutant.name]) for mutant in everything if mutant.name in results.by_name]
    killed = [(mutant, result) for mutant, result in done if result["outcome"] == "killed"]
    survived = [mutant for mutant, result in done if result["outcome"] == "survived"]
    harmless = [mutant for mutant in survived if mutant.equivalent]
    missed = [mutant for mutant in survived if not mutant.equivalent]
    left = len(everything) - len(done)
    faults = len(done) - len(harmless)
    stale = sum(not results.has(mutant) for mutant, _ in done)
    lines = [
        "# Seeded faults in the CUDA half",
        "",
        "`python -m benchmarks.cuda_mutations` seeds one fault at a time, and runs the tests of `tests/cuda` that need",
        "the extension on what comes out, until one fails.",
        "",
        f"{len(done)} edits were tried{f', {left} more are listed' if left else ''}. {len(harmless)} of them "
        f"proved to be no faults, since what is computed stays right. Of the other {faults} **{len(killed)} were "
        f"noticed** ({_percent(len(killed), faults)}; of all edits {_percent(len(killed), len(done))}).",
        *([f"{stale} were tried on an earlier text of their file."] if stale else []),
        "",
        "## Not noticed",
        "",
    ]
    lines += [*(f"- `{mutant.file}`: {mutant.name}. {mutant.missed}" for mutant in missed)] or ["None."]
    lines += ["", "## No faults", ""]
    lines += [*(f"- `{mutant.file}`: {mutant.name}. {mutant.equivalent}" for mutant in harmless)] or ["None."]
    lines += [
        "",
        "## Noticed",
        "",
        "| file | fault | test | what it says |",
        "|---|---|---|---|",
    ]
    for mutant, result in killed:
        by = "the package's own first look" if "and the CPU does its work" in result["reason"] else f"`{result['by']}`"
        cells = [f"`{mutant.file}`", mutant.name, by if result["by"] else "", result["reason"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="those whose name or file holds this")
    parser.add_argument("--again", action="store_true", help="those that have a result too")
    parser.add_argument("--survivors", action="store_true", help="those that have survived and are faults, once more")
    parser.add_argument("--report", action="store_true", help="write the report of what is known, and run nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at a time")
    parser.add_argument("--prefix", default="", help="what commands start with: 'nice -n 19', say")
    options = parser.parse_args()
    everything, results = mutants(), Results()
    for mutant in everything:
        mutated(mutant)
    chosen = [mutant for mutant in everything if options.only in mutant.name or options.only in mutant.file]
    if options.survivors:
        unnoticed = {name for name, result in results.by_name.items() if result["outcome"] == "survived"}
        chosen = [mutant for mutant in chosen if mutant.name in unnoticed and not mutant.equivalent]
    elif not options.again:
        chosen = [mutant for mutant in chosen if not results.has(mutant)]
    chosen.sort(key=lambda mutant: bool(mutant.equivalent))  # these take all tests
    if not options.report:
        builder = Builder(shlex.split(options.prefix))
        builder.prepare()
        judge_all(chosen, builder, results, options.jobs)
    REPORT.write_text(report(everything, results), encoding="utf-8")
    return 0


def judge_all(chosen: list[Mutant], builder: Builder, results: Results, jobs: int) -> None:
    def judge(mutant: Mutant | None) -> dict[str, str]:
        name = hashlib.sha256(mutant.name.encode()).hexdigest()[:12] if mutant else "unmutated"
        folder = WORKSHOP / name
        shutil.rmtree(folder, ignore_errors=True)
        builder.build(mutant, folder)
        result = run_tests(folder, mutant.file if mutant else "", builder.prefix)
        shutil.rmtree(folder)
        if mutant is not None:
            results.add(mutant, result)
            print(
                f"{result['outcome']:9} {mutant.file}: {mutant.name}\n          {result['by']}: {result['reason']}",
                flush=True,
            )
        return result

    sound = builder.base / "sound"  # goes when the sources change
    if not sound.is_file():
        if (unmutated := judge(None))["outcome"] != "survived":
            raise RuntimeError(f"the tests fail without a fault: {unmutated}")
        sound.touch()
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(judge, mutant) for mutant in chosen]
    for failure in filter(None, (each.exception() for each in waiting)):  # one that does not compile, say
        raise failure


if __name__ == "__main__":
    raise SystemExit(main())
