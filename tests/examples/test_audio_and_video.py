"""The scripts for audio and video, on seeded sounds and videos."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

import fidfast

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *arguments):
    """The JSON that a script prints."""
    command = [sys.executable, str(EXAMPLES / script), *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def sounds(folder, rng, loudness, rate=16000, clips=20):
    """Clips of 2 s of noise; each has a loudness of its own."""
    folder.mkdir()
    for number in range(clips):
        sound = rng.standard_normal(2 * rate) * loudness * rng.uniform(0.5, 1.5)
        wavfile.write(folder / f"{number}.wav", rate, np.clip(sound * 2**15, -(2**15), 2**15 - 1).astype(np.int16))
    return folder


def videos(folder, rng, contrast, number=20):
    """Videos of 40 frames of noise around a colour of their own."""
    folder.mkdir()
    for index in range(number):
        colour = rng.uniform(60, 180, 3)
        video = colour + contrast * rng.standard_normal((40, 16, 20, 3))
        np.save(folder / f"{index}.npy", np.clip(video, 0, 255).astype(np.uint8))
    return folder


def test_audio(tmp_path, rng):
    one, two = sounds(tmp_path / "samples", rng, 0.1), sounds(tmp_path / "reference", rng, 0.05, rate=8000)
    found = run("audio_fad.py", one, two, "--extractor", "mel", "--bands", "2")
    assert found["num_samples"] == [40, 40]  # two windows of 0.96 s in each clip
    assert found["value"] > 0
    assert found["stderr"] > 0
    assert found["degrees_of_freedom"] <= 38  # of 20 clips on either side, not of 80 windows


def test_video(tmp_path, rng):
    one, two = videos(tmp_path / "samples", rng, 10), videos(tmp_path / "reference", rng, 30)
    found = run("video_fvd.py", one, two, "--extractor", "motion", "--cells", "1", "--frames", "8")
    assert found["num_samples"] == [100, 100]  # five clips of 8 frames in each video
    assert found["degrees_of_freedom"] <= 38
    assert found["stderr"] > 0


@pytest.mark.slow
def test_vggish_from_a_folder(tmp_path, rng):
    """A stand-in with seeded weights and the interface of torchvggish."""
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "hubconf.py").write_text(
        "import torch\n"
        "class VGGish(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        torch.manual_seed(0)\n"
        "        self.embeddings = torch.nn.Sequential(torch.nn.Linear(15360, 4), torch.nn.ReLU())\n"
        "        self.postprocess = True\n"
        "    def forward(self, sound, rate):\n"
        "        assert rate == 16000 and not self.postprocess\n"
        "        n = len(sound) // 15360\n"
        "        features = self.embeddings(torch.from_numpy(sound[: n * 15360]).view(n, 15360).abs())\n"
        "        assert features.min() < 0, 'the last ReLU is left out'\n"
        "        return features\n"
        "def vggish():\n"
        "    return VGGish()\n"
    )
    one, two = sounds(tmp_path / "samples", rng, 0.1), sounds(tmp_path / "reference", rng, 0.05)
    found = run("audio_fad.py", one, two, "--hub", hub)
    assert found["num_samples"] == [40, 40]
    assert found["stderr"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_i3d_weights(tmp_path, rng):
    """A stand-in with seeded weights and the interface of StyleGAN-V's TorchScript."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(3, 5)

        def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
            assert rescale
            assert resize
            assert return_features
            return self.layer((x / 127.5 - 1).mean(dim=(2, 3, 4)))

    torch.jit.script(Network()).save(str(tmp_path / "i3d.pt"))
    one, two = videos(tmp_path / "samples", rng, 10), videos(tmp_path / "reference", rng, 30)
    found = run("video_fvd.py", one, two, "--weights", tmp_path / "i3d.pt")
    assert found["num_samples"] == [40, 40]
    means = [
        np.stack(
            [
                np.load(path)[first : first + 16].mean(axis=(0, 1, 2))
                for path in sorted(folder.iterdir())
                for first in (0, 16)
            ]
        )
        for folder in (one, two)
    ]
    weights = torch.jit.load(tmp_path / "i3d.pt").layer
    rows = [(mean / 127.5 - 1) @ weights.weight.detach().numpy().T + weights.bias.detach().numpy() for mean in means]
    # Of float32 features: their rounding, 1e-7, relative to their deviations of about 0.1.
    assert found["value"] == pytest.approx(fidfast.fid(*rows), rel=1e-4)
