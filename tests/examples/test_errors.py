"""The scripts end with one sentence if a path or a package is missing, or a file is damaged."""

import re
import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def error_of(monkeypatch, tmp_path, capsys):
    """A function that runs a script in a folder with damaged files, and returns how it ends."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "clip.wav").write_text("text")
    (tmp_path / "text.txt").write_text("not-a-molecule 1")
    np.save(tmp_path / "flat.npy", np.zeros((5, 3)))
    np.savez(tmp_path / "several.npz", np.zeros((5, 4, 3)))
    (tmp_path / "gray").mkdir()
    np.save(tmp_path / "gray" / "video.npy", np.zeros((20, 8, 8), np.uint8))
    monkeypatch.chdir(tmp_path)

    def error_of(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        with pytest.raises(SystemExit) as raised:
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        assert raised.value.code not in (None, 0)
        return raised.value.code if isinstance(raised.value.code, str) else capsys.readouterr().err.splitlines()[-1]

    return error_of


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("audio_fad.py", "none empty", "error: no such folder: none"),
        ("audio_fad.py", "empty none", "error: no such folder: none"),
        ("audio_fad.py", "empty empty --extractor mel", "empty has no .wav file of at least a window"),
        ("audio_fad.py", "damaged empty --extractor mel", r"damaged/clip.wav cannot be read: File format"),
        ("audio_fad.py", "empty empty --hub empty", "VGGish cannot be loaded from empty: .*; see --hub"),
        ("audio_fad.py", "empty empty --extractor clap", "needs laion-clap: pip install laion-clap"),
        ("video_fvd.py", "empty none", "error: no such folder: none"),
        ("video_fvd.py", "empty empty", "--extractor i3d needs --weights i3d_torchscript.pt"),
        ("video_fvd.py", "empty empty --weights none", "no such file: none"),
        ("video_fvd.py", "empty empty --weights flat.npy", "flat.npy is not a TorchScript file"),
        ("video_fvd.py", "empty empty --extractor motion", "empty has no video of 16 frames"),
        ("video_fvd.py", "damaged empty --extractor motion", "cannot identify image file 'damaged/clip.wav'"),
        ("video_fvd.py", "gray empty --extractor motion", r"video.npy has uint8 \(20, 8, 8\), expected uint8 \(frames"),
        ("video_fvd.py", "empty empty --extractor videomae", "needs transformers: pip install transformers"),
        ("jets_fpd.py", "none none", "No such file or directory: 'none'"),
        ("jets_fpd.py", "text.txt flat.npy", "text.txt is not an .npy file of numbers"),
        (
            "jets_fpd.py",
            "flat.npy flat.npy",
            r"flat.npy has shape \(5, 3\), expected at least 2 jets \(n, particles, 3",
        ),
        ("jets_fpd.py", "several.npz flat.npy", "several.npz is not an .npy file of numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_audio_video_and_jets(monkeypatch, error_of, script, arguments, message):
    for package in ("laion_clap", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    assert re.search(message, error_of(script, *arguments.split()))


def test_molecules(monkeypatch, error_of):
    """With a stand-in for fcd, whose import takes seconds."""
    fcd = types.ModuleType("fcd")
    fcd.canonical_smiles = lambda smiles: [None for _ in smiles]
    monkeypatch.setitem(sys.modules, "fcd", fcd)
    assert "No such file or directory: 'none'" in error_of("molecules_fcd.py", "none", "none")
    assert error_of("molecules_fcd.py", "text.txt", "none").endswith("text.txt has 0 valid SMILES, needs at least 2")
    monkeypatch.setitem(sys.modules, "fcd", None)
    assert "needs fcd: pip install fcd" in error_of("molecules_fcd.py", "none", "none")
