"""Fréchet audio distance (FAD) of two folders of clips, with an error bar that leaves out whole clips.

    python audio_fad.py samples/ reference/                       # VGGish, which torch.hub downloads once
    python audio_fad.py samples/ reference/ --hub torchvggish/    # from a copy of its repository, without network
    python audio_fad.py samples/ reference/ --extractor clap      # pip install laion-clap; 10 s windows
    python audio_fad.py samples/ reference/ --extractor mel       # log-mel spectra, no network at all

The folders hold .wav files. Each window of a clip is a row of features; windows of one clip are not independent, so
the clips are the groups of `fidfast.estimate`.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

import fidfast


def read_clip(path, rate):
    """The samples of a .wav file from -1 to 1, mono, at this rate."""
    try:
        its_rate, sound = wavfile.read(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if sound.dtype.kind == "u":
        sound = (sound.astype(np.float32) - 128) / 128
    elif sound.dtype.kind == "i":
        sound = sound.astype(np.float32) / np.iinfo(sound.dtype).max
    if sound.ndim == 2:
        sound = sound.mean(axis=1)
    common = math.gcd(its_rate, rate)
    return resample_poly(sound, rate // common, its_rate // common).astype(np.float32)


def vggish(options):
    """(windows, 128) embeddings of 0.96 s each (Kilgour et al., 2019), as fadtk computes them."""
    import torch

    local = {"source": "local"} if Path(options.hub).is_dir() else {}
    try:
        model = torch.hub.load(options.hub, "vggish", **local).eval()
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"VGGish cannot be loaded from {options.hub}: {error}; see --hub, or use --extractor mel"
        ) from error
    model.postprocess = False  # no PCA and no rounding to 8 bits
    model.embeddings = model.embeddings[:-1]  # without the last ReLU

    def embed(sound):
        with torch.no_grad():
            return np.atleast_2d(model.forward(sound, 16000).cpu().numpy())

    return 16000, embed


def clap(options):
    """(windows, 512) embeddings of 10 s each."""
    try:
        import laion_clap
    except ImportError as error:
        raise ImportError(f"--extractor clap needs laion-clap: pip install laion-clap ({error})") from error
    model = laion_clap.CLAP_Module(enable_fusion=False)
    model.load_ckpt()
    window = 10 * 48000

    def embed(sound):
        parts = [sound[first : first + window] for first in range(0, len(sound), window)]
        return np.concatenate([model.get_audio_embedding_from_data(x=part[None], use_tensor=False) for part in parts])

    return 48000, embed


def mel(options):
    """(windows, 2 bands) mean and deviation of the log-mel spectrum, with the frames and bands of VGGish's input."""
    window, hop, size = 400, 160, 512
    hertz = np.linspace(0, 8000, size // 2 + 1)
    scale = 1127 * np.log1p(hertz / 700)
    edges = np.linspace(*1127 * np.log1p(np.array([125, 7500]) / 700), options.bands + 2)[:, None]
    rise, fall = (scale - edges[:-2]) / np.diff(edges, axis=0)[:-1], (edges[2:] - scale) / np.diff(edges, axis=0)[1:]
    filters = np.maximum(0, np.minimum(rise, fall))

    def embed(sound):
        frames = np.lib.stride_tricks.sliding_window_view(sound, window)[::hop] * np.hanning(window)
        spectrum = np.log(np.abs(np.fft.rfft(frames, size)) @ filters.T + 0.01)
        parts = spectrum[: len(spectrum) // 96 * 96].reshape(-1, 96, options.bands)
        return np.concatenate([parts.mean(axis=1), parts.std(axis=1)], axis=1)

    return 16000, embed


EXTRACTORS = {"vggish": vggish, "clap": clap, "mel": mel}


def features_of(folder, rate, embed):
    """The features of all windows, and the clip of each."""
    rows, clips = [], []
    for path in sorted(Path(folder).rglob("*.wav")):
        sound = read_clip(path, rate)
        found = embed(sound) if len(sound) >= rate else []
        if len(found) == 0:
            print(f"{path} is shorter than a window and is left out")
            continue
        rows.append(found)
        clips += [str(path)] * len(found)
    if not rows:
        raise ValueError(f"{folder} has no .wav file of at least a window")
    return np.concatenate(rows), clips


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("samples")
    parser.add_argument("reference")
    parser.add_argument("--extractor", choices=EXTRACTORS, default="vggish")
    parser.add_argument(
        "--hub", default="harritaylor/torchvggish", help="repository of VGGish, or a folder with a copy"
    )
    parser.add_argument("--bands", type=int, default=64, help="number of mel bands of --extractor mel")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for folder in (options.samples, options.reference):
        if not Path(folder).is_dir():
            parser.error(f"no such folder: {folder}")
    rate, embed = EXTRACTORS[options.extractor](options)
    samples, clips = features_of(options.samples, rate, embed)
    reference, clips_of_reference = features_of(options.reference, rate, embed)
    found = fidfast.estimate(samples, reference, groups=(clips, clips_of_reference))
    print(json.dumps(found.to_dict()) if options.json else f"FAD ({options.extractor}): {found}")


if __name__ == "__main__":
    try:
        main()
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"audio_fad.py: {error}") from None
