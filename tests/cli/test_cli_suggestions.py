"""Misspelt options and commands, and those of other tools."""

import re

import numpy as np
import pytest

from fidfast._cli import commands as cli

NAME = "x\x1b[31m\n.npy"


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.save(f"{name}.npy", np.eye(3))


def usage_error(capsys, *arguments):
    """The message of a command line that cannot be parsed."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert (stopped.value.code, out) == (2, "")
    usage, message = err.splitlines()
    assert usage.startswith("usage: fidfast")
    assert message.startswith("fidfast")
    return message


OPTIONS = {
    "--gpu 0": "--device cuda:0",
    "--gpu=1": "--device cuda:1",
    "--gpus 2": "--device cuda:2",
    "--cuda": "--device cuda:0",
    "--cpu": "--device cpu",
    "--batch_size 8": "--batch-size",
    "--batch_size=8": "--batch-size",
    "--batchsize 8": "--batch-size",
    "--Batch-Size 8": "--batch-size",
    "--bs 8": "--batch-size",
    "-b 8": "--batch-size",
    "--num_workers 2": "--num-workers",
    "--workers 2": "--num-workers",
    "--model vgg": "--extractor",
    "--feature_extractor vgg": "--extractor",
    "--extracter vgg": "--extractor",
    "--mode clean": "--like",
    "--liek clean-fid": "--like",
    "--no_cache": "--no-cache",
    "--fp16": "--bfloat16",
    "--bf16": "--bfloat16",
    "--estimat3": "--estimate",
    "--jsn": "--json",
    "-q": "--quiet",
    "-json": "--json",
    "--skipbroken": "--skip-broken",
    "--devcie cpu": "--device",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(capsys, option):
    first = option.split()[0]
    expected = f"fidfast fid: error: unknown option {first}; did you mean {OPTIONS[option]}?"
    assert usage_error(capsys, "fid", "a", "b", *option.split()) == expected
    assert usage_error(capsys, "fid", *option.split(), "a", "b") == expected
    assert usage_error(capsys, "fid", *option.split()) == expected  # before the missing arguments are reported


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        ("fid a b --html page.html", "unknown option --html; it is an option of fidfast report"),
        ("fid a b --kid", "unknown option --kid; the command is: fidfast evaluate SAMPLES REFERENCE"),
        ("eval a b", "unknown command eval; did you mean fidfast evaluate a b?"),
        ("evaluate a b --extractor x", "--extractor; the extractor follows the name of the metric: --metrics fid@NAME"),
        ("stats a out --estimate", "unknown option --estimate; it is an option of fidfast fid and fidfast evaluate"),
        ("info a.npy --gpu 0", "unknown option --gpu; see fidfast info --help"),
        ("fid a b --dims 2048", "--dims; the extractor determines the features: --extractor package.module:factory"),
        ("fid a b --num-gpus 2", "unknown option --num-gpus; one GPU is used: --device cuda"),
        ("fid --path1 a --path2 b", "--path1; the sources are given without options: fidfast fid SAMPLES REFERENCE"),
        ("fid a --save-stats b", "unknown option --save-stats; the command is: fidfast stats SOURCE OUT"),
        ("fid a b --zzz", "unknown option --zzz; see fidfast fid --help"),
        ("--json fid a b", "--json is not an option of fidfast itself; the options follow the command"),
        ("a/ b/", "unknown command a/; did you mean fidfast fid a/ b/?"),
        ("a b", "unknown command a; did you mean fidfast fid a b?"),
        ("a.npy b.npy --json", "unknown command a.npy; did you mean fidfast fid a.npy b.npy --json?"),
        ("a report b", "unknown command a; did you mean fidfast report a b?"),
        ("a.npy", "unknown command a.npy; did you mean fidfast info a.npy?"),
        ("gone.zip b.npz", "unknown command gone.zip; did you mean fidfast fid gone.zip b.npz?"),
        ("fdi a b", "unknown command fdi; did you mean fidfast fid a b?"),
        ("stat a out", "unknown command stat; did you mean fidfast stats a out?"),
        ("repotr a b", "unknown command repotr; did you mean fidfast report a b?"),
        ("compute a b", "unknown command compute; did you mean fidfast fid a b?"),
        ("calc --images=a", "unknown command calc; did you mean fidfast fid --images=a?"),
        ("save_stats a out", "unknown command save_stats; did you mean fidfast stats a out?"),
        (
            "xyz",
            "unknown command xyz; the commands are fid, evaluate, report, stats, merge, info, cache, doctor, "
            "completion, demo",
        ),
        ("fid a.npy b.npy a.npy b.npy", "unexpected argument a.npy (2 too many); pass the folder, not its files"),
        ("fid a b a", "unexpected argument a (1 too many)"),
        ("fid a b --batch-size 0", "argument --batch-size: must be at least 1, got 0"),
        ("fid a b --batch-size eight", "argument --batch-size: must be an integer, got 'eight'"),
        ("fid a b --num-workers -1", "argument --num-workers: must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_other_mistakes(capsys, arguments, end):
    assert usage_error(capsys, *arguments.split()).endswith(f" {end}")


def test_unprintable_names_are_escaped(capsys):
    assert usage_error(capsys, NAME, "b").endswith(r"did you mean fidfast fid 'x\x1b[31m\n.npy' b?")
    assert r"--\x1b[31m" in usage_error(capsys, "fid", "a", "b", "--\x1b[31m")
    assert r"x\x1b[31m\n.npy" in usage_error(capsys, "fid", "a", "b", NAME)


def test_options_that_are_right(capsys):
    """Abbreviations, values with hyphens, and names after ``--``."""
    np.save("-a.npy", np.eye(3))
    for arguments in (
        ("fid", "a.npy", "b.npy", "--prec", "float64"),
        ("fid", "a.npy", "b.npy", "--extractor=-x"),
        ("fid", "--", "-a.npy", "b.npy"),
    ):
        assert cli.main(arguments) == 0
        assert "Fréchet distance " in capsys.readouterr().out


@pytest.mark.parametrize("command", [(), ("fid",), ("evaluate",), ("report",), ("stats",), ("info",), ("demo",)])
def test_help_fits_80_columns(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        cli.main([*command, "--help"])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert re.match(r"usage: fidfast", out)
