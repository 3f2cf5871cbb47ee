"""`demo_of_features` and `fidfast demo --features`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fidfast
from fidfast._cli import commands as cli

FILE = Path(fidfast.__file__).with_name("_emoji_features.npz")


@pytest.fixture(scope="module")
def found():
    return fidfast.demo_of_features()


def test_the_file_is_small_and_as_described():
    assert FILE.stat().st_size <= 300_000
    with np.load(FILE) as file:
        shapes = {name: (file[name].shape, file[name].dtype.str) for name in file.files}
        rows = np.concatenate([file["reference_rows"], file["samples_rows"]])
        assert len(np.unique(rows)) == len(rows)
        assert len(np.unique(np.concatenate([file["reference"], file["samples"]]), axis=0)) == len(rows)
    assert {shapes.pop(name) for name in ("reference", "samples", "other_style")} == {((700, 64), "<f2")}
    assert shapes == {"units": ((64,), "<u2"), "reference_rows": ((700,), "<u2"), "samples_rows": ((700,), "<u2")}


def test_equal_distributions_differ_by_nothing_and_changes_are_seen(found):
    same, *styles = (found.estimates[name] for name in found.estimates if "style" in name)
    assert abs(same.unbiased) < 2 * same.stderr
    values = [same.unbiased, *(one.unbiased for one in styles)]
    assert values == sorted(values)
    assert found.estimates["100 % in another style"].unbiased > 3 * found.estimates["100 % in another style"].stderr
    assert same.unbiased < found.estimates["10 % noise"].unbiased < found.estimates["30 % noise"].unbiased
    assert all(one.note is None and one.caution is None for one in found.estimates.values())


def test_the_distance_is_that_of_the_file(found):
    with np.load(FILE) as file:
        expected = fidfast.fid(file["other_style"], file["reference"])
    assert found.estimates["100 % in another style"].value == pytest.approx(expected, rel=1e-6)  # of float16 in float32


def test_the_command_needs_numpy_and_scipy_only(found):
    code = "import sys\nallowed = {'numpy', 'scipy', 'fidfast', *sys.stdlib_module_names}\nclass Block:\n"
    code += " def find_spec(self, name, path=None, target=None):\n"
    code += "  top = name.split('.')[0]\n"
    code += "  if top not in allowed and not top.startswith('_'): raise ImportError(f'{name} is blocked')\n"
    code += "sys.meta_path.insert(0, Block())\nfrom fidfast._cli.commands import main\n"
    code += "sys.exit(main(['demo', '--features']))"
    command = [sys.executable, "-X", "utf8", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{found}\n\n{found.table()}\n\nThe features: {found.origin}.\n"


def test_the_origin_is_told(found, capsys):
    assert cli.main(["demo", "--features"]) == 0
    out = capsys.readouterr().out
    for name in ("nsfwjs", "emoji-datasource-google", "emoji-datasource-twitter", "not the network of the FID"):
        assert name in out
