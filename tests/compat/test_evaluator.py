"""The command line of guided-diffusion's evaluator."""

import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tolerance import distance_error

import fidfast.compat
from fidfast.compat import calculate_frechet_distance, evaluator

LABELS = ["Inception Score", "FID", "sFID", "Precision", "Recall"]


def test_five_lines(monkeypatch, capsys):
    numbers = {"is": 12.5, "fid": 3.25, "sfid": 6.125, "precision": 0.75, "recall": 0.5}
    calls = []

    def evaluate(samples, reference, *, metrics, **options):
        calls.append((samples, reference, options))
        return {name: numbers[name] for name in metrics}

    monkeypatch.setattr("fidfast.torch.evaluate", evaluate)
    fidfast.compat.evaluator.main(["reference.npz", "samples.npz"])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{label}: {number}" for label, number in zip(LABELS, numbers.values(), strict=True)]
    assert calls == [("samples.npz", "reference.npz", {"like": "adm", "progress": True})]


@pytest.mark.parametrize("module", ["evaluator", "pytorch_fid"])
def test_as_a_module(module):
    command = [sys.executable, "-W", "error", "-m", f"fidfast.compat.{module}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.startswith(f"usage: python -m fidfast.compat.{module} ")


@pytest.mark.parametrize("module", ["evaluator", "pytorch_fid"])
def test_a_command_ends_with_a_sentence(monkeypatch, module):
    monkeypatch.setattr(sys, "argv", [module, "missing-a", "missing-b"])
    with pytest.raises(SystemExit, match=rf"^fidfast\.compat\.{module}: no such file or folder: missing-"):
        runpy.run_path(str(Path(fidfast.compat.__file__).with_name(f"{module}.py")), run_name="__main__")


@pytest.mark.slow
def test_numbers(monkeypatch, pairs, weights, tmp_path, capsys):
    """The statistics of the reference file, and the images of both for precision and recall.

    tests/torch/test_evaluate.py compares each number with a transcription of guided-diffusion's rule.
    """
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    samples, reference = (
        np.concatenate([np.stack([np.asarray(Image.open(file)) for file in sorted(folder.iterdir())])] * 2)
        for folder in pairs
    )
    random = np.random.default_rng(0)
    rows = {name: random.normal(size=(9, dim)) for name, dim in (("", 2048), ("_s", 2023))}
    stats = {f"mu{name}": features.mean(0) for name, features in rows.items()}
    stats |= {f"sigma{name}": np.cov(features, rowvar=False) for name, features in rows.items()}
    np.savez(tmp_path / "reference.npz", arr_0=reference, **stats)
    np.savez(tmp_path / "samples.npz", arr_0=samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the weights are not those of the statistics
        evaluator.main([str(tmp_path / "reference.npz"), str(tmp_path / "samples.npz")])
    numbers = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert list(numbers) == LABELS

    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = FeatureExtractorInceptionV3("net", ["2048"], str(weights))
    (features,) = network(torch.from_numpy(samples).movedim(3, 1))
    mine = features.numpy().mean(0), np.cov(features.numpy(), rowvar=False)
    expected = calculate_frechet_distance(*mine, stats["mu"], stats["sigma"])
    assert float(numbers["FID"]) == pytest.approx(expected, rel=0, abs=distance_error(expected, mine))
    assert float(numbers["sFID"]) > 0
    assert 1 <= float(numbers["Inception Score"]) <= 4
    assert {float(numbers["Precision"]), float(numbers["Recall"])} <= {0.0, 0.25, 0.5, 0.75, 1.0}
