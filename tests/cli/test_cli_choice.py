"""The command line on files that hold several things: what is used, and ``--key``."""

import json
import pickle

import numpy as np
import pytest

import fidfast
from fidfast._cli import commands as cli


@pytest.fixture
def files(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = rng.standard_normal((300, 4))
    np.save("rows.npy", rows)
    spatial = {"mu_s": np.ones(4), "sigma_s": np.eye(4)}
    np.savez("adm.npz", arr_0=np.zeros((12, 8, 8, 3), np.uint8), mu=np.zeros(4), sigma=np.eye(4), **spatial)
    metrics = {"fid": {"mu": np.zeros(4), "sigma": np.eye(4)}, "fd_dinov2": {"mu": np.ones(4), "sigma": np.eye(4)}}
    (tmp_path / "edm2.pkl").write_bytes(pickle.dumps(metrics))
    np.savez("both.npz", features=rows, mu=np.zeros(4), sigma=np.eye(4))
    return tmp_path


def run(capsys, *arguments):
    """Exit code, standard output and standard error."""
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def numbers(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


ADM = "statistics 'mu,sigma' (the file also holds 'mu_s,sigma_s' and 12 images)"


def test_statistics_have_precedence_over_images(files, capsys):
    """No network runs: it would need torch's weights."""
    code, out, err = run(capsys, "fid", "rows.npy", "adm.npz")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"Fréchet distance {fidfast.fid('rows.npy', 'adm.npz'):.8g}"
    assert out.splitlines()[-1] == f"adm.npz: {ADM}"
    found = numbers(capsys, "fid", "rows.npy", "adm.npz")
    assert (found["distance"], found["used"]) == (fidfast.fid("rows.npy", "adm.npz"), {"adm.npz": ADM})
    code, out, _ = run(capsys, "stats", "adm.npz", "out.npz")
    assert code == 0
    assert out.splitlines()[-1] == f"adm.npz: {ADM}"
    assert fidfast.GaussianStats.load("out.npz") == fidfast.GaussianStats(np.zeros(4), np.eye(4), extractor="inception")


@pytest.mark.parametrize("command", [("fid", "--estimate"), ("report", "--no-pairs"), ("fid", "--key", "arr_0")])
def test_images_have_precedence_where_rows_are_needed(files, capsys, monkeypatch, command):
    opened = []
    monkeypatch.setattr(
        "fidfast.torch._images.sources.open_images", lambda path, **_: opened.append(path) or exit_now()
    )

    def exit_now():
        raise ValueError("opened")

    code, _, err = run(capsys, command[0], "rows.npy", "adm.npz", *command[1:])
    assert (code, err, opened) == (1, "fidfast: opened\n", ["adm.npz"])


def test_features_have_precedence_where_rows_are_needed(files, capsys):
    assert numbers(capsys, "fid", "both.npz", "rows.npy")["used"] == {
        "both.npz": "statistics (the file also holds features of 300 samples)"
    }
    found = numbers(capsys, "fid", "--estimate", "rows.npy", "both.npz")
    assert found["used"] == {"both.npz": "features (the file also holds statistics)"}
    assert found["value"] == pytest.approx(0, abs=1e-9)


def test_image_options_where_images_are_not_used(files, capsys):
    code, _, err = run(capsys, "fid", "rows.npy", "adm.npz", "--batch-size", "4")
    assert (code, err) == (1, "fidfast: --batch-size applies to images, but none are used of rows.npy or adm.npz\n")


def test_a_key_of_one_side(files, capsys):
    default = numbers(capsys, "fid", "rows.npy", "edm2.pkl")
    chosen = numbers(capsys, "fid", "rows.npy", "edm2.pkl", "--key", "fd_dinov2")
    assert default["extractor"] == [None, "inception"]
    assert default["used"] == {"edm2.pkl": "statistics 'fid' (the file also holds 'fd_dinov2')"}
    assert chosen["extractor"] == [None, "dinov2"]
    assert chosen["used"] == {"edm2.pkl": "statistics 'fd_dinov2' (the file also holds 'fid')"}
    expected = fidfast.fid("rows.npy", fidfast.GaussianStats.load("edm2.pkl", key="fd_dinov2"))
    assert chosen["distance"] == pytest.approx(expected, rel=1e-12)
    by_name = numbers(capsys, "fid", "rows.npy", "edm2.pkl", "--extractor", "dinov2")
    assert (by_name["distance"], by_name["extractor"]) == (chosen["distance"], ["dinov2", "dinov2"])
    code, _, err = run(capsys, "fid", "rows.npy", "edm2.pkl", "--extractor", "clip")
    assert code == 1
    assert "edm2.pkl holds statistics 'fid' of inception and 'fd_dinov2' of dinov2, but the extractor is clip" in err
    fidfast.GaussianStats.load("edm2.pkl", key="fd_dinov2").save("mine.npz")  # a file without this key
    assert numbers(capsys, "fid", "mine.npz", "edm2.pkl", "--key", "fd_dinov2")["distance"] == 0


def test_keys_of_both_sides(files, capsys):
    found = numbers(capsys, "fid", "adm.npz", "adm.npz", "--key", "mu,sigma", "--key", "mu_s,sigma_s")
    assert found["distance"] == pytest.approx(4)
    assert found["extractor"] == ["inception", "inception-spatial"]
    found = numbers(capsys, "fid", "adm.npz", "edm2.pkl", "--key", "", "--key", "fd_dinov2")
    assert found["distance"] == pytest.approx(4)
    assert numbers(capsys, "fid", "adm.npz", "adm.npz", "--key", "mu_s,sigma_s")["distance"] == 0
    assert run(capsys, "stats", "adm.npz", "spatial.npz", "--key", "mu_s,sigma_s")[0] == 0
    assert fidfast.GaussianStats.load("spatial.npz").extractor == "inception-spatial"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("rows.npy", "edm2.pkl", "--key", "fd_clip"),
            "edm2.pkl has no 'fd_clip'; its keys are 'fid/mu' float64 (4,), ",
        ),
        (("adm.npz", "both.npz", "--key", "mu_s,sigma_s"), "both.npz has no 'mu_s'; its keys are 'features' "),
        (
            ("rows.npy", "rows.npy", "--key", "a"),
            "--key applies to files of several arrays, not to rows.npy and rows.npy",
        ),
        (("adm.npz", "adm.npz", *("--key", "a") * 3), "--key is given 3 times for 2 sources"),
    ],
)
def test_keys_that_fit_nothing(files, capsys, arguments, message):
    code, out, err = run(capsys, "fid", *arguments)
    assert (code, out) == (1, "")
    assert message in err


def test_info_lists_all_that_a_file_holds(files, capsys):
    _, out, _ = run(capsys, "info", "adm.npz")
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    assert lines["holds"].strip() == "statistics and images"
    assert lines["keys"].split() == ["mu,sigma", "mu_s,sigma_s", "arr_0"]
    assert lines["entry arr_0"].strip() == "uint8 (12, 8, 8, 3)"
    found = numbers(capsys, "info", "edm2.pkl")
    assert found["keys"] == ["fid", "fd_dinov2"]
    assert found["entries"]["fd_dinov2/sigma"] == "float64 (4, 4)"
    np.savez("other.npz", weight=np.zeros((3, 2)))
    found = numbers(capsys, "info", "other.npz")
    assert (found["holds"], found["keys"], found["entries"]) == ("other arrays", [], {"weight": "float64 (3, 2)"})


def test_the_key_chooses_the_images(files, capsys, rng):
    images, samples = (rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8) for _ in range(2))
    np.savez("two.npz", images=images, samples=samples)
    np.save("samples.npy", samples)
    (files / "means_for_the_key.py").write_text("def make():\n    return lambda x: x.float().mean((2, 3))\n")
    options = ("--extractor", "means_for_the_key:make", "--quiet", "--num-workers", "0")
    code, _, err = run(capsys, "fid", "two.npz", "samples.npy", *options)
    assert (code, err) == (1, "fidfast: two.npz holds several images: 'images', 'samples'; choose one with --key\n")
    found = {
        key: numbers(capsys, "fid", "two.npz", "samples.npy", "--key", key, *options) for key in ("images", "samples")
    }
    assert found["samples"]["distance"] == pytest.approx(0, abs=1e-9)
    assert found["images"]["distance"] > 1e-3
    assert found["samples"]["used"] == {"two.npz": "images 'samples' (the file also holds 'images')"}


def test_folders_of_statistics(files, capsys):
    """The cache of fadtk, of two models."""
    for model, mean in (("vggish", 0), ("whisper-tiny", 1)):
        folder = files / "sounds" / "stats" / model
        folder.mkdir(parents=True)
        np.save(folder / "mu.npy", np.full(4, mean))
        np.save(folder / "cov.npy", np.eye(4))
    found = numbers(capsys, "fid", "sounds/stats/vggish", "sounds/stats/whisper-tiny")
    assert (found["distance"], found["extractor"]) == (pytest.approx(4), ["vggish", "whisper-tiny"])
    code, _, err = run(capsys, "fid", "sounds", "sounds/stats/vggish")
    message = "sounds holds several statistics: 'vggish', 'whisper-tiny'; choose one with key= or --key"
    assert (code, err) == (1, f"fidfast: samples: {message}\n")
    found = numbers(capsys, "fid", "sounds", "sounds/stats/vggish", "--key", "whisper-tiny", "--key", "")
    assert found["distance"] == pytest.approx(4)
    assert found["used"] == {"sounds": "statistics 'whisper-tiny' (the folder also holds 'vggish')"}
    lines = dict(line.split("  ", 1) for line in run(capsys, "info", "sounds")[1].splitlines())
    assert lines["part vggish"].strip().startswith("statistics, dim 4, num_samples unknown, ")


def test_statistics_of_other_features_suggest_a_key(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pool, spatial = {"mu": np.zeros(3), "sigma": np.eye(3)}, {"mu_s": np.zeros(2), "sigma_s": np.eye(2)}
    np.savez("spatial.npz", **spatial)
    np.savez("pool.npz", **pool)
    np.savez("both.npz", **pool, **spatial)
    assert cli.main(["fid", "spatial.npz", "both.npz"]) == 1
    assert capsys.readouterr().err == (
        "fidfast: samples has dim 2, but reference has dim 3; both.npz holds statistics 'mu,sigma' and 'mu_s,sigma_s': "
        "choose with --key\n"
    )
    assert cli.main(["fid", "spatial.npz", "both.npz", "--key", "mu_s,sigma_s"]) == 0
    assert capsys.readouterr().out.startswith("sFID 0\n")
    assert cli.main(["fid", "spatial.npz", "pool.npz"]) == 1
    assert capsys.readouterr().err == "fidfast: samples has dim 2, but reference has dim 3\n"
