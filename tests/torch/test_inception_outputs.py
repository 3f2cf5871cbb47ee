"""The outputs of the Inception network equal those of torch-fidelity's, whose weights are seeded."""

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

import fidfast.torch as ft
from fidfast._results import is_inception
from fidfast.torch._extractors import stored
from fidfast.torch._extractors.inception import INCEPTION_OUTPUTS

NAMES = list(INCEPTION_OUTPUTS)


@pytest.fixture(scope="module")
def extractors(weights):
    with pytest.warns(UserWarning, match="is not an FID") as caught:
        found = ft.load_extractors(NAMES, weights=weights, like="adm")
    assert len(caught) == 1  # the weights are read once
    return found


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(np.random.default_rng(7).integers(0, 256, (2, 3, 77, 120), dtype=np.uint8))


@pytest.fixture(scope="module")
def expected(weights, images):
    """The outputs of torch-fidelity's network, and what guided-diffusion's evaluator makes of ``mixed_6/conv``.

    That is the branch of one convolution of Mixed_6d, after its ReLU; its channels are last, the first seven are used.
    """
    network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(weights))
    maps = []
    network.Mixed_6d.branch1x1.register_forward_hook(lambda module, given, output: maps.append(output))
    with torch.inference_mode():
        pool, logits = network(images)
    assert maps[0].shape == (2, 192, 17, 17)
    spatial = np.moveaxis(maps[0].numpy(), 1, 3)[..., :7]
    return [pool.numpy(), spatial.reshape(len(spatial), -1), logits.numpy()]


#: Relative error of the float32 features of a network with folded batch norms.
NETWORK_ERROR = 1e-5


@pytest.mark.parametrize("is_prepared", [False, True])
def test_outputs_equal_those_of_torch_fidelity(extractors, images, expected, is_prepared):
    resized = torch.stack([ft.resize(image, "tf1-bilinear", (299, 299)) for image in images])
    network = extractors[0].prepared().model if is_prepared else extractors[0].model
    with torch.inference_mode():
        found = network((resized - 128) / 128)
    for (output, num_features), rows in zip(INCEPTION_OUTPUTS.values(), expected, strict=True):
        assert rows.shape == (2, num_features)
        assert rows.std() > 0.01
        assert found[output].dtype == torch.float32
        error = np.abs(found[output].numpy() - rows).max()
        assert error < NETWORK_ERROR * np.abs(rows).max() if is_prepared else error == 0


def test_extractors_share_the_network(extractors, images):
    assert len({id(one.model) for one in extractors}) == 1
    assert [one.num_features for one in extractors] == [2048, 2023, 1008]
    digest = extractors[0].name.removeprefix("inception")
    assert digest.startswith("-weights-")
    assert [one.full_name for one in extractors] == [f"{name}{digest}/tf1-bilinear-299" for name in NAMES]
    assert [is_inception(name) for name in NAMES] == [True, False, False]


@pytest.mark.parametrize("number", range(3))
def test_stored_names_are_loaded(monkeypatch, extractors, number):
    monkeypatch.setattr(
        stored, "load_extractors", lambda names, **options: [extractors[NAMES.index(name)] for name in names]
    )
    extractor = extractors[number]
    found, _ = stored.extractor_of_statistics(extractor.full_name, "reference")
    assert (found.full_name, found.output) == (extractor.full_name, extractor.output)
