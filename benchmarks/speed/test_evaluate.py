"""Time of the five numbers of guided-diffusion's evaluator, beside that of the network alone on the same images."""

from __future__ import annotations

import warnings

import networks
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

import fidfast.torch as ft


@pytest.fixture(scope="module")
def number(request: pytest.FixtureRequest) -> int:
    """Images of each side."""
    return int(request.config.getoption("--images") or 2000)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory, number: int) -> list[str]:
    """Two ``.npz`` as of ADM's samplers, with crops of 256 x 256, each of one photograph."""
    rng = np.random.default_rng(0)
    paths = []
    for name, photograph in zip(("samples", "reference"), load_sample_images().images, strict=True):
        height, width = photograph.shape[:2]
        corners = zip(rng.integers(0, height - 256, number), rng.integers(0, width - 256, number), strict=True)
        images = np.stack([photograph[top : top + 256, left : left + 256] for top, left in corners])
        path = tmp_path_factory.mktemp("adm") / f"{name}.npz"
        np.savez(path, images)
        paths.append(str(path))
    return paths


@pytest.mark.benchmark(group="five numbers of 2 x 2,000 images")
@pytest.mark.parametrize("tool", ["features alone", "fidfast"])
def test_five_numbers(benchmark, sides, number, tmp_path, tool):  # type: ignore[no-untyped-def]
    weights = networks.seeded_inception_weights(tmp_path)

    def features_alone() -> int:
        extractor = ft.load_extractor("inception", weights=weights, like="adm")
        return sum(len(ft.features_of_images(side, extractor, device="cpu").features) for side in sides)

    def five_numbers() -> int:
        found = ft.evaluate(*sides, like="adm", weights=weights, device="cpu")
        return sum(found.num_samples["recall"])

    with warnings.catch_warnings():  # the weights are not those of 2015-12-05
        warnings.simplefilter("ignore")
        counted = benchmark.pedantic(features_alone if tool == "features alone" else five_numbers, rounds=2)
    assert counted == 2 * number
