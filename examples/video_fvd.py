"""Fréchet video distance (FVD) of two folders of videos, with an error bar that leaves out whole videos.

    python video_fvd.py samples/ reference/ --weights i3d_torchscript.pt   # the network of StyleGAN-V
    python video_fvd.py samples/ reference/ --extractor videomae           # pip install transformers
    python video_fvd.py samples/ reference/ --extractor motion             # colours and changes, no network at all

StyleGAN-V's evaluation links to i3d_torchscript.pt. A folder holds videos as .npy (frames, height, width, 3) uint8, as
.gif or .webp, or as folders of frames. Each clip of consecutive frames is a row of features; clips of one video are not
independent, so the videos are the groups of `fidfast.estimate`.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import fidfast


def read_video(path):
    """(frames, height, width, 3) uint8."""
    from PIL import Image, ImageSequence

    if path.suffix == ".npy":
        video = np.load(path)
        if video.ndim != 4 or video.shape[3] != 3 or video.dtype != np.uint8:
            raise ValueError(f"{path} has {video.dtype} {video.shape}, expected uint8 (frames, height, width, 3)")
        return video
    if path.is_dir():
        frames = [Image.open(frame) for frame in sorted(path.iterdir())]
    else:
        frames = ImageSequence.Iterator(Image.open(path))
    return np.stack([np.asarray(frame.convert("RGB")) for frame in frames])


def i3d(options):
    """(clips, 400) outputs of the I3D network before the softmax, as StyleGAN-V calls it."""
    import torch

    if options.weights is None:
        raise ValueError("--extractor i3d needs --weights i3d_torchscript.pt: see the repository of StyleGAN-V")
    if not Path(options.weights).is_file():
        raise ValueError(f"no such file: {options.weights}")
    try:
        model = torch.jit.load(options.weights).eval()
    except RuntimeError as error:
        raise ValueError(f"{options.weights} is not a TorchScript file") from error

    def embed(clips):
        videos = torch.from_numpy(clips).permute(0, 4, 1, 2, 3).float()  # (clips, 3, frames, height, width)
        with torch.no_grad():
            return model(videos, rescale=True, resize=True, return_features=True).numpy()

    return embed


def videomae(options):
    """(clips, 768) mean of the tokens of VideoMAE, which takes 16 frames."""
    import torch

    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"--extractor videomae needs transformers: pip install transformers ({error})") from error
    name = options.weights or "MCG-NJU/videomae-base"
    model = transformers.VideoMAEModel.from_pretrained(name).eval()
    processor = transformers.VideoMAEImageProcessor.from_pretrained(name)

    def embed(clips):
        pixels = processor([list(clip) for clip in clips], return_tensors="pt")
        with torch.no_grad():
            return model(**pixels).last_hidden_state.mean(dim=1).numpy()

    return embed


def motion(options):
    """(clips, 6 cells^2) mean colours of a grid of cells, and their mean absolute change between frames."""

    def embed(clips):
        size = min(clips.shape[2:4]) // options.cells * options.cells
        parts = clips[:, :, :size, :size].reshape(
            *clips.shape[:2], options.cells, -1, options.cells, size // options.cells, 3
        )
        cells = parts.mean(axis=(3, 5)).reshape(*clips.shape[:2], -1)
        return np.concatenate([cells.mean(axis=1), np.abs(np.diff(cells, axis=1)).mean(axis=1)], axis=1)

    return embed


EXTRACTORS = {"i3d": i3d, "videomae": videomae, "motion": motion}


def features_of(folder, embed, frames):
    """The features of all clips, and the video of each."""
    rows, names = [], []
    for path in sorted(Path(folder).iterdir()):
        video = read_video(path)
        number = len(video) // frames
        if number == 0:
            print(f"{path} has {len(video)} frames, fewer than {frames}, and is left out")
            continue
        rows.append(embed(video[: number * frames].reshape(number, frames, *video.shape[1:])))
        names += [path.name] * number
    if not rows:
        raise ValueError(f"{folder} has no video of {frames} frames")
    return np.concatenate(rows), names


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("samples")
    parser.add_argument("reference")
    parser.add_argument("--extractor", choices=EXTRACTORS, default="i3d")
    parser.add_argument("--weights", help="file of I3D; name or folder of VideoMAE")
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip")
    parser.add_argument("--cells", type=int, default=4, help="rows and columns of the grid of --extractor motion")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for folder in (options.samples, options.reference):
        if not Path(folder).is_dir():
            parser.error(f"no such folder: {folder}")
    embed = EXTRACTORS[options.extractor](options)
    samples, videos = features_of(options.samples, embed, options.frames)
    reference, videos_of_reference = features_of(options.reference, embed, options.frames)
    found = fidfast.estimate(samples, reference, groups=(videos, videos_of_reference))
    print(json.dumps(found.to_dict()) if options.json else f"FVD ({options.extractor}): {found}")


if __name__ == "__main__":
    try:
        main()
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"video_fvd.py: {error}") from None
