"""Time from two folders of images to the distance, in a new process for each tool, including imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import networks
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

FIDFAST = [sys.executable, "-m", "fidfast", "fid", "--no-cache", "--quiet", "--json", "--device", "cpu"]
TORCH_FIDELITY = (
    "import sys, torch_fidelity; a, b = sys.argv[1:]; "
    "print(torch_fidelity.calculate_metrics(input1=a, input2=b, fid=True, cuda=False, cache=False, verbose=False)"
    "['frechet_inception_distance'])"
)

#: Command of each tool, and the tool whose number it must equal within a relative tolerance. With fewer than 2,048
#: images the other tools' roots of null directions have errors of sqrt(eps) each; bfloat16 has 8 bits.
COMMANDS = {
    "pytorch-fid": ([sys.executable, "-m", "pytorch_fid", "--device", "cpu"], None, 0.0),
    "fidfast like pytorch-fid": ([*FIDFAST, "--like", "pytorch-fid"], "pytorch-fid", 1e-3),
    "fidfast bfloat16": ([*FIDFAST, "--like", "pytorch-fid", "--bfloat16"], "pytorch-fid", 0.1),
    "torch-fidelity": ([sys.executable, "-c", TORCH_FIDELITY], None, 0.0),
    "fidfast like torch-fidelity": ([*FIDFAST, "--like", "torch-fidelity"], "torch-fidelity", 1e-3),
}

#: What precedes the number in a tool's output. With few images the text of fidfast has three digits, its JSON has all.
NUMBER = r"(?:^FID: +|\"distance\": |^)(\d[\d.]*(?:e[-+]?\d+)?)"

numbers: dict[str, float] = {}


@pytest.fixture(scope="module")
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two folders with crops of 256 x 256, each of one photograph."""
    rng = np.random.default_rng(0)
    paths = []
    for photograph in load_sample_images().images:
        folder = tmp_path_factory.mktemp("photograph")
        height, width = photograph.shape[:2]
        for i in range(request.config.getoption("--images") or 300):
            top, left = rng.integers(0, height - 256), rng.integers(0, width - 256)
            crop = photograph[top : top + 256, left : left + 256, :]
            Image.fromarray(crop[:, :: rng.choice((1, -1))]).save(folder / f"{i:05}.png")
        paths.append(str(folder))
    return paths


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    networks.seeded_inception_weights(folder)
    return folder


@pytest.mark.benchmark(group="folders to a number")
@pytest.mark.parametrize("tool", COMMANDS)
def test_folders_to_a_number(benchmark, folders, torch_home, tool):  # type: ignore[no-untyped-def]
    command, peer, tolerance = COMMANDS[tool]

    def run() -> float:
        done = subprocess.run(
            [*command, *folders],
            capture_output=True,
            text=True,
            check=True,
            cwd=torch_home,  # outside the source tree, which is not compiled
            env={**os.environ, "TORCH_HOME": str(torch_home)},
        )
        return float(re.search(NUMBER, done.stdout, re.MULTILINE)[1])  # type: ignore[index]

    numbers[tool] = benchmark.pedantic(run, rounds=2)
    if peer in numbers:
        assert numbers[tool] == pytest.approx(numbers[peer], rel=tolerance)
