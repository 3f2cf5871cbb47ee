"""Options of images: fields, keyword arguments and their errors; results of images."""

import dataclasses

import numpy as np
import pytest

import fidfast.torch as ft
from fidfast.torch._images.options import FeatureKeywords, ImageKeywords


def channel_means(images):
    return images.mean(dim=(2, 3))


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def test_keywords_have_precedence_over_options(images):
    options = ft.ImageOptions(precision="float64", blocks=3, batch_size=5)
    moments = ft.moments_of_images(images, channel_means, options=options, blocks=2).moments
    assert (moments.precision, len(moments.blocks), moments.num_samples) == ("float64", 2, 12)
    assert options.blocks == 3


def test_unknown_keywords_name_the_most_similar_option(images):
    for function in (ft.moments_of_images, ft.stats_of_images, ft.features_of_images):
        with pytest.raises(TypeError, match="unexpected keyword argument 'batchsize'; did you mean 'batch_size'"):
            function(images, channel_means, batchsize=3)
    with pytest.raises(TypeError, match="fid_of_images got an unexpected keyword argument 'x'; its options are"):
        ft.fid_of_images(images, images, channel_means, x=1)
    with pytest.raises(TypeError, match="options must be an ImageOptions, got dict"):
        ft.moments_of_images(images, channel_means, options={"batch_size": 3})


def test_options_of_moments_do_not_apply_to_features(images):
    with pytest.raises(TypeError, match="features_of_images got an unexpected keyword argument 'use_cache'"):
        ft.features_of_images(images, channel_means, use_cache=True)
    options = ft.ImageOptions(blocks=3, checkpoint="run.npz", use_cache=True)  # for several functions
    assert ft.features_of_images(images, channel_means, options=options).features.shape == (12, 3)


def test_types_of_keywords_are_those_of_the_fields():
    types = {field.name: field.type for field in dataclasses.fields(ft.ImageOptions)}
    keywords = {**FeatureKeywords.__annotations__, **ImageKeywords.__annotations__}
    assert {name: keyword.__forward_arg__ for name, keyword in keywords.items()} == types
    with pytest.raises(TypeError, match="positional argument"):
        ft.ImageOptions(8)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
        ({"dtype": "float16"}, "dtype must be one of None, 'float32', 'bfloat16', got 'float16'"),
        ({"compile": "maybe"}, "compile must be one of 'auto', True, False, got 'maybe'"),
    ],
)
def test_invalid_options(keywords, message):
    with pytest.raises(ValueError, match=message):
        ft.ImageOptions(**keywords)


def test_results_unpack_and_describe_themselves(images):
    result = ft.moments_of_images(images, channel_means, blocks=2)
    moments, skipped = result
    assert (moments.num_samples, skipped) == (12, [])
    assert str(result) == "12 images (0 skipped), 3 features of channel_means"
    assert result.to_dict() == {
        "num_samples": 12,
        "dim": 3,
        "extractor": "channel_means",
        "precision": "float64",
        "blocks": 2,
        "skipped": [],
        "ignored": {},
        "from_cache": False,
    }
    result = ft.features_of_images(images, channel_means)
    features, names, skipped, extractor, indices = result
    assert (features.shape, extractor, indices) == ((12, 3), "channel_means", list(range(12)))
    assert str(result) == "12 images (0 skipped), 3 features of channel_means"
    assert result.to_dict()["names"] == names
    assert "features" not in result.to_dict()
    assert "<table" in result._repr_html_()
    assert ft.stats_of_images(images, channel_means, ddof=0).ddof == 0
