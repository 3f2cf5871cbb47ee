"""What the result of `evaluate` says besides the numbers, and runs that were interrupted."""

import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from evaluations import DIMS, OPTIONS, Networks, evaluate, images
from sources import encoded

import fidfast.torch as ft


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture(scope="module")
def sides():
    return images(0, 200), images(1, 150, high=230)


def test_broken_images_and_files_that_are_not_read(networks, sides, tmp_path):
    for i, image in enumerate(sides[0][:20]):
        (tmp_path / f"{i:02}.png").write_bytes(encoded(image))
    (tmp_path / "30.png").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ft.BrokenImageError, match=r"30\.png"):
        evaluate(networks, tmp_path, sides[1], metrics="fid")
    found = evaluate(networks, tmp_path, sides[1], metrics="fid", skip_broken=True)
    assert [len(messages) for messages in found.skipped.values()] == [1]
    assert list(found.ignored) == ["samples"]
    assert found.num_samples["fid"] == (20, 150)
    assert found["fid"] == pytest.approx(evaluate(networks, sides[0][:20], sides[1], metrics="fid")["fid"])


def test_a_killed_run_continues(networks, sides, tmp_path):
    """The samples are done when the reference is interrupted."""
    expected = evaluate(networks, *sides)
    calls = []

    def stop(pixels):
        calls.append(len(pixels))
        if len(calls) == 30:
            raise KeyboardInterrupt
        return networks.network(pixels)

    original = dict(networks.extractors)
    networks.extractors.update(
        {name: ft.Extractor(stop, name, output=original[name].output, num_features=DIMS[name]) for name in DIMS}
    )
    with pytest.raises(KeyboardInterrupt):
        evaluate(networks, *sides, checkpoint=tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.reference.npz", "run.samples.npz"]
    found = evaluate(networks, *sides, checkpoint=tmp_path / "run")
    assert found.values == expected.values
    assert sum(calls) == 350 + 8  # the batch that was interrupted ran twice
    assert list(tmp_path.iterdir()) == []


def test_warns_once_for_each_pair_of_extractors(networks, sides, recwarn):
    """In the order of the arguments, whatever number of metrics compares them."""
    features = ft.features_of_images(sides[1], networks.extractors["inception"], **OPTIONS)
    reference = {"inception": replace(features, extractor="inception-weights-76543210")}
    message = "the two inputs have different extractors, {!r} and {!r}: the result is not meaningful"
    evaluate(networks, sides[0], reference, metrics="fid,kid,precision,recall,density")
    assert [str(one.message) for one in recwarn] == [message.format("inception", "inception-weights-76543210")]
    recwarn.clear()
    evaluate(networks, reference, sides[0], metrics="fid,kid,precision")
    assert [str(one.message) for one in recwarn] == [message.format("inception-weights-76543210", "inception")]


def test_kid_explains_a_missing_error_only_if_errors_are_requested(networks, sides):
    few = [side[:3] for side in sides]
    assert evaluate(networks, *few, metrics="kid").cautions == {}
    (caution,) = evaluate(networks, *few, metrics="kid", estimate=True).cautions.values()
    assert caution == "without a standard error: it needs at least 4 samples; samples has 3"
    shared = np.concatenate([sides[0][:50], sides[1][:50]])
    (caution,) = evaluate(networks, sides[0], shared, metrics="kid").cautions.values()
    assert caution == "50 of the 200 rows of samples are also in reference, so the two sides are not independent"


def test_the_result(networks, sides):
    found = evaluate(networks, *sides)
    assert list(found.values) == ["is", "fid", "sfid", "precision", "recall"]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["values"] == dict(found.values)
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found != replace(found, like="adm")
    lines = found.table().splitlines()
    assert [line.split("  ")[0] for line in lines[:5]] == ["Inception Score", "FID", "sFID", "Precision", "Recall"]
    assert lines[5] == ""
    assert "num_samples 200 (Inception Score)" in lines
    with pytest.raises(KeyError, match="'kid' was not computed; the metrics are is, fid, sfid, precision, recall"):
        found["kid"]
