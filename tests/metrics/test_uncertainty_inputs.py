"""What `estimate`, `influence` and the command line take, and what they say where it does not fit."""

import json

import ml_dtypes
import numpy as np
import pytest
import torch
from photographs import crops, write

import fidfast
import fidfast.torch as ft
from fidfast import GaussianStats, Moments
from fidfast._cli import commands as cli
from fidfast._files import Features

KNOWN = GaussianStats(np.zeros(4), np.eye(4))


@pytest.fixture
def rows(rng):
    return rng.standard_normal((300, 4)).astype(np.float32) * 1.2


# Sources ------------------------------------------------------------------------------------------------------------


def test_arrays_tensors_and_files_are_one(rows, tmp_path):
    expected = fidfast.estimate(rows, KNOWN)
    influence = fidfast.influence(rows, KNOWN)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", features=rows)
    fortran = np.asfortranarray(rows)
    strided = np.repeat(rows, 2, axis=1)[:, ::2]
    for source in (torch.from_numpy(rows), tmp_path / "rows.npy", str(tmp_path / "rows.npz"), fortran, strided):
        assert fidfast.estimate(source, KNOWN) == expected
        assert np.array_equal(fidfast.influence(source, KNOWN), influence)
    KNOWN.save(tmp_path / "known.npz")
    assert fidfast.estimate(rows, tmp_path / "known.npz") == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_are_their_values(rows, dtype):
    tensor = torch.from_numpy(rows).to(dtype)
    assert fidfast.estimate(tensor, KNOWN) == fidfast.estimate(tensor.double(), KNOWN)
    assert np.array_equal(fidfast.influence(tensor, KNOWN), fidfast.influence(tensor.double().numpy(), KNOWN))
    if dtype == torch.bfloat16:
        assert fidfast.estimate(rows.astype(ml_dtypes.bfloat16), KNOWN) == fidfast.estimate(tensor, KNOWN)


def test_a_memory_map_of_more_rows_than_are_read_at_a_time(rng, tmp_path):
    rows = rng.standard_normal((20_000, 3))
    np.save(tmp_path / "rows.npy", rows)
    known = GaussianStats(np.zeros(3), np.eye(3))
    found = fidfast.influence(tmp_path / "rows.npy", known)
    assert found.shape == (20_000,)
    assert np.array_equal(found, fidfast.influence(rows, known))
    picked = 8192 + 8192 + 7  # in the last slice
    exact = fidfast.fid(rows, known) - fidfast.fid(np.delete(rows, picked, axis=0), known)
    # What a row weighs is some 6 / n; the quadrature costs 1e-7 of it, and rounding 1e-15 of the traces, 6.
    assert found[picked] == pytest.approx(exact, abs=1e-7 * 6 / 20_000 + 6e-14)


def test_anything_with_dlpack(rows):
    class Foreign:
        def __dlpack__(self, **options):
            return rows.__dlpack__(**options)

        def __dlpack_device__(self):
            return rows.__dlpack_device__()

    class Shaped(Foreign):
        shape = rows.shape

    for foreign in (Shaped(), Foreign()):
        assert fidfast.estimate(foreign, KNOWN) == fidfast.estimate(rows, KNOWN)
        assert fidfast.fid(foreign, KNOWN) == fidfast.fid(rows, KNOWN)


def test_moments_without_blocks_are_a_known_reference(rows):
    moments = Moments(4)
    moments.update(rows)
    found = fidfast.estimate(rows + 1, moments)
    assert found == fidfast.estimate(rows + 1, moments.stats())
    assert found.num_samples == (300, None)


# Errors, notes and warnings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [fidfast.estimate, fidfast.influence])
def test_errors_name_the_argument(call, rows, tmp_path):
    with pytest.raises(TypeError, match=r"features: .*int"):
        call(rows.astype(int), KNOWN)
    with pytest.raises(ValueError, match="reference: "):
        call(rows, np.zeros((0, 4)))
    with pytest.raises(ValueError, match="features has dim 3, but reference has dim 4"):
        call(rows[:, :3], KNOWN)
    with pytest.raises(ValueError, match=r"features: features must be 2-D"):
        call(rows[0], KNOWN)
    bad = rows.copy()
    bad[7, 2] = np.inf
    with pytest.raises(ValueError, match=r"features: .*NaN or infinity; the first such row is 7"):
        call(bad, KNOWN)
    with pytest.raises(ValueError, match="features has 2 samples, too few to leave any out"):
        call(rows[:2], KNOWN)
    with pytest.raises(ValueError, match=r"features: .*at least 2"):
        call(rows[:1], KNOWN)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*none.npy"):
        call(tmp_path / "none.npy", KNOWN)
    with pytest.raises(ValueError, match="float16"):
        call(rows, KNOWN, precision="float16")


def test_statistics_have_no_rows(rows):
    with pytest.raises(ValueError, match="features are statistics alone, which do not tell how their samples scatter"):
        fidfast.estimate(KNOWN, KNOWN)
    moments = Moments(4, blocks=20)
    moments.update(rows)
    for source in (KNOWN, moments):
        with pytest.raises(ValueError, match=r"features must be an \(n, dim\) array or a file of features"):
            fidfast.influence(source, rows)


def test_few_samples_have_a_value_and_a_note_and_an_influence(rng):
    rows = rng.standard_normal((8, 4))
    found = fidfast.estimate(rows, KNOWN)
    assert found.note == "features has 8 samples, and 4 directions that vary need 9"
    assert found.value == fidfast.fid(rows, KNOWN)
    assert np.isnan([found.stderr, found.bias, found.unbiased, *found.interval()]).all()
    assert str(found) == f"{found.value:.6g}, without an error bar: {found.note}"
    assert np.isfinite(fidfast.influence(rows, KNOWN)).all()
    back = fidfast.estimate(rng.standard_normal((100, 4)), rows)
    assert back.note == "reference has 8 samples, and 4 directions that vary need 9"
    assert fidfast.estimate(rng.standard_normal((9, 4)), KNOWN).note is None
    # Directions that do not vary need no samples.
    narrow = np.zeros((9, 40))
    narrow[:, :4] = rng.standard_normal((9, 4))
    assert fidfast.estimate(narrow, GaussianStats(np.zeros(40), np.eye(40))).note is None


@pytest.mark.parametrize("call", [fidfast.estimate, fidfast.influence])
def test_extractors_that_differ_are_warned_of_once_and_where_they_are(call, rows):
    known = GaussianStats(np.zeros(4), np.eye(4), extractor="one")
    moments = Moments(4, extractor="two", blocks=20)
    moments.update(rows)
    pair = (moments, known) if call is fidfast.estimate else (Features(rows, "two"), known)
    with pytest.warns(UserWarning, match="different extractors, 'two' and 'one'") as caught:
        call(*pair)
    assert [warning.filename for warning in caught] == [__file__]


# The command line ---------------------------------------------------------------------------------------------------


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def files(rows, rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", rows)
    np.save("b.npy", rng.standard_normal((200, 4)) + 1)
    return tmp_path


def test_estimate_of_two_files(files, capsys):
    code, out, err = run(capsys, "fid", "a.npy", "b.npy", "--estimate")
    assert (code, err) == (0, "")
    found = fidfast.estimate("a.npy", "b.npy")
    number, biased, facts = out.splitlines()
    assert number == f"Fréchet distance {found}"
    assert biased == f"with the bias, as other tools report it: {fidfast.fid('a.npy', 'b.npy'):.8g}"
    assert facts == f"extractor unknown, rounding at most {found.rounding:.1g}"


def test_estimate_as_json(files, capsys):
    code, out, _ = run(capsys, "fid", "a.npy", "b.npy", "--estimate", "--json", "--extractor", "inception")
    known = json.loads(out)
    found = fidfast.estimate("a.npy", "b.npy")
    assert code == 0
    assert (known["label"], known["files"], known["skipped"]) == ("FID", ["a.npy", "b.npy"], {})
    assert (known["value"], known["stderr"], known["bias"]) == (found.value, found.stderr, found.bias)
    assert known["interval_95"] == list(found.interval())
    assert known["extractor"] == "inception"


def test_estimate_of_blocks_and_of_statistics(files, capsys, rows):
    moments = Moments(4, blocks=20, extractor="net")
    moments.update(rows)
    moments.save("blocks.npz")
    moments.stats().save("stats.npz")
    code, out, err = run(capsys, "fid", "blocks.npz", "b.npy", "--estimate", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["degrees_of_freedom"] == fidfast.estimate(moments, "b.npy").degrees_of_freedom
    code, out, _ = run(capsys, "fid", "a.npy", "stats.npz", "--estimate", "--json")
    assert (code, json.loads(out)["num_samples"]) == (0, [300, None])
    code, _, err = run(capsys, "fid", "stats.npz", "stats.npz", "--estimate")
    assert (code, err.startswith("fidfast: features are statistics alone")) == (1, True)


def test_estimate_of_few_samples_says_why_there_is_no_error_bar(files, capsys, rows):
    np.save("few.npy", rows[:6])
    code, out, _ = run(capsys, "fid", "few.npy", "b.npy", "--estimate")
    assert code == 0
    assert "without an error bar: features has 6 samples, and 4 directions that vary need 9" in out
    assert "with the bias" not in out
    code, out, _ = run(capsys, "fid", "few.npy", "b.npy", "--estimate", "--json")
    assert json.loads(out)["stderr"] is None


def test_estimate_does_not_go_with_like(files, capsys):
    code, out, err = run(capsys, "fid", "a.npy", "b.npy", "--estimate", "--like", "pytorch-fid")
    assert (code, out) == (1, "")
    assert err == "fidfast: --estimate is of the unbiased covariance; it does not go with --like\n"


def test_estimate_of_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        write(tmp_path / name, crops(seed, [(40, 40)] * 6))
    (tmp_path / "a" / "broken.png").write_bytes(b"no image")
    network = ("--extractor", "efficientnet-lite0", "--device", "cpu")
    code, out, err = run(capsys, "fid", "a", "b", "--estimate", "--json", "--skip-broken", *network)
    assert (code, err) == (0, "")
    known = json.loads(out)
    features = ft.features_of_images("a", "efficientnet-lite0", device="cpu", skip_broken=True)
    assert features.features.shape == (6, 1280)
    assert features.names == [f"a/{i:04}.png" for i in range(6)] or len(features.names) == 6
    others = ft.features_of_images("b", "efficientnet-lite0", device="cpu").features
    assert known["value"] == pytest.approx(fidfast.fid(features.features, others), rel=1e-5)  # float32 networks
    assert known["num_samples"] == [6, 6]
    assert known["note"] == "features has 6 samples, and 5 directions that vary need 11"
    assert known["extractor"] == "efficientnet-lite0/pil-bicubic-224"
    assert len(known["skipped"]["a"]) == 1
    # The image that adds most is found by its name.
    influence = fidfast.influence(features.features, others)
    assert len(influence) == len(features.names)
