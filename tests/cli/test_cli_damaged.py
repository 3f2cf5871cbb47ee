"""Every command on damaged files: a result or one line, never a traceback."""

import io
import pickle
import random
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from image_files import png

import fidfast
from fidfast._cli import commands as cli

COMMANDS = (
    ("info", "{}"),
    ("info", "{}", "--json"),
    ("fid", "{}", "rows.npy"),
    ("fid", "rows.npy", "{}", "--estimate"),
    ("stats", "{}", "out"),
    ("report", "{}", "rows.npy", "--no-pairs", "--quiet"),
    ("fid", "{}", "{}", "--key", "mu,sigma", "--json"),
)


@pytest.fixture
def files(tmp_path, monkeypatch, rng):
    """Names of files of every format."""
    monkeypatch.chdir(tmp_path)
    rows = rng.standard_normal((20, 3)).astype(np.float32)
    images = rng.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    moments = fidfast.Moments.from_features(rows)
    moments.save("moments.npz")
    moments.stats().save("stats.npz")
    np.save("rows.npy", rows)
    np.savez_compressed("rows.npz", features=rows, labels=np.arange(20))
    np.savez("images.npz", images=images)
    with open("stats.pkl", "wb") as file:
        pickle.dump({"mu": np.zeros(3), "sigma": np.eye(3)}, file)
    torch.save({"features": torch.from_numpy(rows)}, "rows.pt")
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn):
        safetensors.torch.save_file({"features": torch.from_numpy(rows).to(dtype)}, f"{dtype}.safetensors")
    with zipfile.ZipFile("images.zip", "w") as archive, tarfile.open("images.tar", "w") as shard:
        for number, image in enumerate(images):
            data = png(image)
            archive.writestr(f"{number}.png", data)
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    return sorted(path.name for path in tmp_path.iterdir())


def damaged(content, source):
    """The bytes with up to 20 changes, most of them near the beginning or the end, where headers are."""
    for _ in range(source.choice((0, 1, 1, 2, 5, 20))):
        position = source.choice((source.randrange(200), source.randrange(len(content)), len(content) - 100)) % len(
            content
        )
        kind = source.randrange(4)
        if kind == 0:
            content[position] = source.randrange(256)
        elif kind == 1:
            content[position] ^= 1 << source.randrange(8)
        elif kind == 2:
            del content[position : position + source.choice((1, 4, 100))]
        else:
            content[position:position] = source.randbytes(source.choice((1, 2, 50)))
        content = content or bytearray(b"x")
    return content


def test_damaged_files(files, capsys, monkeypatch, pytestconfig):
    monkeypatch.setenv("FIDFAST_CACHE", "cache")
    contents = {}
    for name in files:
        with open(name, "rb") as file:
            contents[name] = file.read()
    source = random.Random(20151205)
    for number in range(8_000 if pytestconfig.getoption("--all") else 150):
        name = source.choice(files)
        suffix = name.rpartition(".")[2] if source.random() < 0.9 else source.choice(files).rpartition(".")[2]
        path = f"damaged.{suffix}"
        with open(path, "wb") as file:
            file.write(damaged(bytearray(contents[name]), source))
        words = [word.format(path) for word in source.choice(COMMANDS)]
        if words[0] != "info" and name.startswith("images"):
            words += ["--extractor", "colours:make"]  # which does not exist
        code = cli.main(words)
        out, err = capsys.readouterr()
        described = f"{number}: {' '.join(words)} ({name}): {err}"
        assert code == (0 if out else 1), described
        assert all(line.startswith("fidfast: ") for line in err.splitlines()), described
        assert code == 0 or err, described
