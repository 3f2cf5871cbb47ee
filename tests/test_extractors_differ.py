"""Every function of two sets warns if their features are of different extractors."""

import inspect
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import fidfast
from fidfast import ClassMoments, Moments

ONE, TWO = "inception/pytorch-fid", "dinov2/bicubic"
MESSAGE = f"the two inputs have different extractors, '{ONE}' and '{TWO}': the result is not meaningful"

#: Functions of texts, which have no extractor.
WITHOUT_EXTRACTOR = {"ngram_jsd"}


def rows(seed):
    return np.random.default_rng(seed).standard_normal((40, 3))


def public_functions():
    """The public functions whose first two arguments are two sets, by name."""
    found = {}
    for name in fidfast.__all__:
        function = getattr(fidfast, name)
        if inspect.isfunction(function):
            arguments = list(inspect.signature(function).parameters)
            if len(arguments) > 1 and arguments[1] in ("reference", "features_b", "samples_b", "b"):
                found[name] = function
    return {name: function for name, function in found.items() if name not in WITHOUT_EXTRACTOR}


FUNCTIONS = public_functions()
NEED_ROWS = {"cmmd", "compare", "density_coverage", "fid_infinity", "influence", "kid", "kid_subsets"}
NEED_ROWS |= {"manifold_metrics", "mifid", "mind", "precision_recall"}


def npz(folder, seed, extractor):
    path = folder / f"{seed}.npz"
    np.savez(path, features=rows(seed), extractor=extractor)
    return path


def moments(folder, seed, extractor):
    found = Moments(3, extractor=extractor, blocks=20)
    found.update(rows(seed))
    return found


def checkpoint(folder, seed, extractor):
    path = folder / f"{seed}.moments.npz"
    moments(folder, seed, extractor).save(path)
    return path


def statistics(folder, seed, extractor):
    return moments(folder, seed, extractor).stats()


def result_of_extraction(folder, seed, extractor):
    return SimpleNamespace(features=rows(seed), extractor=extractor)


def classes(folder, seed, extractor):
    found = ClassMoments(3, extractor=extractor)
    found.update(rows(seed), np.arange(40) % 2)
    return found


#: How to make an input of a given extractor, for each function.
MAKERS = {name: [npz, result_of_extraction] for name in FUNCTIONS}
for name in FUNCTIONS.keys() - NEED_ROWS:
    MAKERS[name].append(moments)
MAKERS["fid"] += [checkpoint, statistics]
MAKERS["class_distances"] = [classes]


def call(function, one, two):
    if function is fidfast.compare:
        return function(one, two, two)
    return function(one, two, **({"subset_size": 10} if function is fidfast.kid_subsets else {}))


def messages(function, one, two):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(function, one, two)
    assert all(warning.filename == __file__ for warning in caught)  # the line of the caller
    return {str(warning.message) for warning in caught}, len(caught)


def test_the_list_is_complete():
    assert len(FUNCTIONS) >= 17


@pytest.mark.parametrize(("name", "make"), [(name, make) for name in FUNCTIONS for make in MAKERS[name]])
def test_warns_once_for_each_pair(name, make, tmp_path):
    found, count = messages(FUNCTIONS[name], make(tmp_path, 0, ONE), make(tmp_path, 1, TWO))
    assert found == {MESSAGE}
    assert count == (2 if name == "compare" else 1)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_equal_and_unknown_extractors_do_not_warn(name, tmp_path):
    make = MAKERS[name][-1] if name == "class_distances" else result_of_extraction
    for pair in ((ONE, ONE), (ONE, None), (None, None)):
        assert messages(FUNCTIONS[name], make(tmp_path, 0, pair[0]), make(tmp_path, 1, pair[1])) == (set(), 0)


@pytest.mark.parametrize(
    ("one", "two", "differ"),
    [
        ("dinov2-vitl14", "dinov2-vitl14-weights-1234/torch-bicubic-antialias-224", False),
        ("dinov2-vitl14-weights-1234", "dinov2-vitl14-weights-5678", True),
        ("dinov2-vitl14", "dinov2-vitl14-fdr-weights-1234", True),
        ("inception", "inception-weights-1234", True),
        ("inception-spatial", "inception-spatial-weights-1234", True),
    ],
)
def test_a_name_without_a_digest_may_have_any_weights(one, two, differ):
    """Files of other tools do not state their weights; "inception" alone always has those of 2015-12-05."""
    pair = [statistics(None, seed, name) for seed, name in enumerate((one, two))]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fidfast.fid(*pair)
    assert [str(warning.message).endswith("is not meaningful") for warning in found] == [True] * differ
