"""Commands in the processes of torchrun: the output and the exit code of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from evaluations import images
from image_files import png, write_files
from processes import several_processes

import fidfast
from fidfast._cli.commands import main
from fidfast._cli.torchrun import launch_of

EXTRACTOR = """
import os, torch
def load():
    def sums(images):
        images = images.round()
        return torch.cat([images[:, :, :3].sum(dim=(2, 3)), images[:, :, 3:].sum(dim=(2, 3))], dim=1)
    sums.name = "sums"
    return sums
def dying():
    def die(images):
        if os.environ.get("RANK") == "1":
            os._exit(9)
        return images.sum(dim=(2, 3))
    return die
"""

WORKER = """
import sys
sys.path[:0] = sys.argv[2:]
import commands_that_share
commands_that_share.run(sys.argv[1])
"""

SUMS = ["--extractor", "sums:load", "--no-cache"]
METRICS = ",".join(f"{name}@sums:load" for name in ("fid", "kid", "precision", "recall", "density", "coverage"))

#: The same for one process and for two.
EQUAL = {
    "fid": ["fid", "a.npy", "b.npy", *SUMS, "--json"],
    "statistics": ["fid", "a.npy", "rows.npy", *SUMS, "--json"],
    "estimate": ["fid", "a.npy", "b.npy", *SUMS, "--estimate", "--json"],
    "report": ["report", "a.npy", "b.npy", *SUMS, "--json"],
    "evaluate": ["evaluate", "a.npy", "b.npy", "--metrics", METRICS, "--no-cache", "--json"],
    "skipped": ["evaluate", "broken", "b.npy", "--metrics", METRICS, "--no-cache", "--json", "--skip-broken"],
    "features": ["fid", "rows.npy", "rows.npy", "--json"],
    "info": ["info", "a.npy", "--json"],
    "stats": ["stats", "broken", "out.npz", *SUMS, "--skip-broken"],
    "shard": ["stats", "a.npy", "out.moments.npz", "--shard", "2/3", *SUMS],
    "cached": ["fid", "a.npy", "b.npy", "--extractor", "sums:load", "--json"],
}
FAILING = {
    "broken": ["stats", "broken", "none.npz", *SUMS],
    "missing": ["fid", "a.npy", "gone", *SUMS],
    "arguments": ["fid", "a.npy", "b.npy", "--extracter", "x"],
    "dying": ["fid", "a.npy", "b.npy", "--extractor", "sums:dying", "--no-cache"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchrun")
    (folder / "sums.py").write_text(EXTRACTOR)
    np.save(folder / "a.npy", images(3, 40))
    np.save(folder / "b.npy", images(4, 30))
    np.save(folder / "rows.npy", np.random.default_rng(0).normal(200, 30, (20, 6)))
    files = {f"{k:02}.png": png(image) for k, image in enumerate(images(5, 30))}
    (folder / "broken").mkdir()
    write_files("folder", folder / "broken", {**files, "20.png": b"no image"})
    return folder


@pytest.fixture(scope="module")
def results(folder):
    """The exit code, output and errors of both processes, by name of the command."""
    commands = {**EQUAL, **FAILING}
    (folder / "commands.json").write_text(json.dumps(list(commands.values())))
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "FIDFAST_CACHE": str(folder / "cache"),
    }
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    assert several_processes(2, folder, WORKER, *path, environment=environment) == [0, 9]
    ranks = [json.loads((folder / f"results-{rank}.json").read_text()) for rank in range(2)]
    return {name: [rank[k] for rank in ranks if k < len(rank)] for k, name in enumerate(commands)}


def flat(value, path=""):
    """Numbers and texts of nested containers, by path."""
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in flat(one, f"{path}/{key}").items()}
    if isinstance(value, list):
        return {k: v for key, one in enumerate(value) for k, v in flat(one, f"{path}/{key}").items()}
    return {path: value}


@pytest.mark.parametrize("name", EQUAL)
def test_the_output_of_one_process(folder, results, name, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FIDFAST_CACHE", str(folder / "cache"))
    (code, output, errors), (code_of_other, output_of_other, errors_of_other) = results[name]
    assert (code, code_of_other) == (0, 0), (errors, errors_of_other)
    assert (output_of_other, errors_of_other) == ("", "")
    written = EQUAL[name][2] if EQUAL[name][0] == "stats" else None
    if written is not None:
        (folder / written).rename(folder / f"shared-{written}")
    assert main(EQUAL[name]) == 0
    alone = capsys.readouterr()
    if "--json" not in EQUAL[name]:
        assert output == alone.out
    else:
        one, two = flat(json.loads(output)), flat(json.loads(alone.out))
        assert one.keys() == two.keys()
        for key in one.keys() - {"/rounding", "/created"}:
            # Sums in another order change the last digits, of the terms more than of their difference.
            assert one[key] == (pytest.approx(two[key], rel=1e-10) if isinstance(two[key], float) else two[key]), key
    if name == "stats":
        shared, own = (fidfast.GaussianStats.load(folder / path) for path in (f"shared-{written}", written))
        assert shared.num_samples == own.num_samples == 29
        np.testing.assert_allclose(shared.mu, own.mu, rtol=1e-14)
        # Sums of 29 products in another order, 29 u = 3e-15 of the variances.
        np.testing.assert_allclose(shared.sigma, own.sigma, rtol=0, atol=1e-14 * np.max(own.sigma))


def test_errors_are_written_once(folder, results):
    (code, _, errors), (code_of_other, _, errors_of_other) = results["broken"]
    assert (code, code_of_other) == (1, 1)
    assert errors.startswith("fidfast: rank 1: ")
    assert "20.png: not an image" in errors
    assert "--skip-broken skips such images" in errors
    assert errors.count("\n") == 1
    assert errors_of_other == ""
    (code, _, errors), (code_of_other, _, errors_of_other) = results["missing"]
    assert (code, code_of_other) == (1, 1)
    assert errors.startswith("fidfast: ")
    assert "gone" in errors
    assert "rank" not in errors
    (code, output, errors), (code_of_other, output_of_other, errors_of_other) = results["arguments"]
    assert (code, code_of_other) == (2, 2)
    assert "--extracter" in errors
    assert (output_of_other, errors_of_other) == ("", "")
    ((code, output, errors),) = results["dying"]
    assert (code, output) == (1, "")
    assert "rank 1 has given no sign of life" in errors


@pytest.mark.slow
def test_torchrun(folder, capsys, monkeypatch):
    arguments = EQUAL["fid"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "fidfast", *arguments],
        cwd=folder,
        env={**os.environ, "MASTER_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(folder)
    main(arguments)
    alone = json.loads(capsys.readouterr().out)
    assert json.loads(done.stdout)["distance"] == pytest.approx(alone["distance"], rel=1e-12)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (0, 1)),  # of another launcher
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "node", "MASTER_PORT": "29500"}, (1, 2)),
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "node", "MASTER_PORT": "29500"}, (0, 1)),
        ({"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "node", "MASTER_PORT": "29500"}, (0, 1)),
    ],
)
def test_environment(environment, expected):
    launch = launch_of(environment)
    assert (launch.rank, launch.size) == expected
