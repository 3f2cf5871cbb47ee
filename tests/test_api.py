"""What holds for all of the public API: signatures, results, collectors, pickles."""

import copy
import dataclasses
import importlib
import importlib.util
import inspect
import json
import pickle
import tempfile

import numpy as np
import pytest

import fidfast
import fidfast.compat
import fidfast.cuda
import fidfast.jax
import fidfast.torch
from fidfast import ClassMoments, GaussianStats, InceptionScore, Moments, NgramCounts
from fidfast._results import Result
from fidfast._stats import Collector

#: The public modules whose functions are checked.
MODULES = [fidfast, fidfast.cuda, fidfast.jax, fidfast.torch]
if importlib.util.find_spec("ray") is not None:
    MODULES.append(importlib.import_module("fidfast.ray"))

# Signatures ---------------------------------------------------------------------------------------------------------

#: Parameters with a default that may be given by position.
POSITIONAL = {
    ("fidfast.Estimate.interval", "level"),
    ("fidfast.NgramCounts.most_common", "k"),
    ("fidfast.ray.moments", "column"),
    ("fidfast.torch.check_images", "extractor"),
    ("fidfast.torch.estimate_of_images", "extractor"),
    ("fidfast.torch.fid_of_images", "extractor"),
}

TWO_SIDED = """
    cmmd density_coverage estimate fid_infinity frechet_distance frechet_terms influence kid kid_subsets
    manifold_metrics mifid mind ngram_jsd precision_recall report transport_map class_distances
""".split()  # noqa: SIM905


def callables():
    """Names and objects of all public functions, methods and constructors, except constructors of dataclasses."""
    for module in MODULES:
        for name in module.__all__:
            value, path = getattr(module, name), f"{module.__name__}.{name}"
            if inspect.isfunction(value):
                yield path, value
            if not inspect.isclass(value):
                continue
            if not dataclasses.is_dataclass(value):
                yield path, value.__init__
            for method, function in vars(value).items():
                function = getattr(function, "__func__", function)
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{path}.{method}", function


CALLABLES = dict(callables())


@pytest.mark.parametrize("path", CALLABLES)
def test_options_are_keyword_only(path):
    for parameter in inspect.signature(CALLABLES[path]).parameters.values():
        if parameter.default is not parameter.empty and (path, parameter.name) not in POSITIONAL:
            assert parameter.kind is parameter.KEYWORD_ONLY, parameter


@pytest.mark.parametrize("path", CALLABLES)
def test_everything_public_has_a_docstring(path):
    assert inspect.getdoc(CALLABLES[path])


@pytest.mark.parametrize("function", [*(getattr(fidfast, name) for name in TWO_SIDED), fidfast.torch.fid_of_images])
def test_metrics_of_two_sides_take_samples_and_reference(function):
    assert list(inspect.signature(function).parameters)[:2] == ["samples", "reference"]


@pytest.mark.parametrize("module", [*MODULES, fidfast.compat])
def test_public_names_belong_to_the_public_module(module):
    for name in module.__all__:
        assert getattr(getattr(module, name), "__module__", module.__name__) == module.__name__, name


# Objects of every public class --------------------------------------------------------------------------------------


def moments(**options):
    rng = np.random.default_rng(0)
    result = Moments(3, **options)
    result.update(rng.standard_normal((40, 3)))
    result.update(rng.standard_normal((2, 3)).astype(np.float32))
    return result


def class_moments(labels, **options):
    result = ClassMoments(3, **options)
    result.update(np.random.default_rng(0).standard_normal((len(labels), 3)), labels)
    return result


def inception_score(**options):
    result = InceptionScore(5, **{"splits": 2, **options})
    result.update(np.random.default_rng(0).standard_normal((20, 5)))
    return result


def ngram_counts(n, texts, **options):
    result = NgramCounts(n, **options)
    result.update(texts)
    return result


COLLECTORS = {
    "Moments": moments(extractor="net", precision="float64"),
    "Moments with blocks": moments(blocks=7),
    "Moments without rows": Moments(3),
    "Moments of many rows": Moments.from_features(np.random.default_rng(0).standard_normal((2000, 3))),
    "ClassMoments of integers": class_moments([3, 1, 3, -2], extractor="net"),
    "ClassMoments of strings": class_moments(["dog", "дог", "cat"], precision="float64"),
    "ClassMoments without rows": ClassMoments(3, num_classes=4),
    "InceptionScore": inception_score(),
    "InceptionScore of a part": inception_score(length=50, first=30),
    "InceptionScore with splits of a size": inception_score(splits=None, split_size=7, first=9),
    "NgramCounts of characters": ngram_counts(2, ["banana", "band 😀"]),
    "NgramCounts of words": ngram_counts(2, ["to be or not to be"], level="word"),
    "NgramCounts without texts": NgramCounts(3),
}


def features(n, shift=0.0):
    return np.random.default_rng(n).standard_normal((n, 4)) + shift


def image_features():
    return fidfast.torch.ImageFeatures(
        features=features(2).astype(np.float32),
        names=["a.png", "c.png"],
        skipped=["b.png: not an image"],
        extractor="net/pil-bicubic-224",
        indices=[0, 2],
    )


def growing_sample():
    estimates = [fidfast.estimate(features(n), features(80, 1.0)) for n in (6, 50)]
    return fidfast.torch.GrowingSample(4, 4, 80, [6, 50], estimates)


def file_info():
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/rows.npy", features(9))
        return fidfast.file_info(f"{folder}/rows.npy")


RESULTS = {
    "frechet_terms": lambda: fidfast.frechet_terms(features(60), features(80, 1.0)),
    "estimate": lambda: fidfast.estimate(features(60), features(80, 1.0)),
    "estimate without an error bar": lambda: fidfast.estimate(features(6), features(80, 1.0)),
    "compare": lambda: fidfast.compare(features(60), features(70), features(80, 1.0)),
    "compare without an error bar": lambda: fidfast.compare(features(6), features(70), features(80, 1.0)),
    "fid_infinity": lambda: fidfast.fid_infinity(features(60), features(80, 1.0), num_points=3),
    "class_distances": lambda: fidfast.class_distances(
        class_moments([0, 0, 1, 1, 1, 2]), class_moments([0, 0, 0, 1, 1]), skip_incomplete=True
    ),
    "kid": lambda: fidfast.kid(features(60), features(80, 1.0)),
    "kid without an error bar": lambda: fidfast.kid(features(2), features(80, 1.0)),
    "kid_subsets": lambda: fidfast.kid_subsets(features(60), features(80, 1.0), subsets=5, subset_size=20),
    "precision_recall": lambda: fidfast.precision_recall(features(60), features(80, 1.0)),
    "density_coverage": lambda: fidfast.density_coverage(features(60), features(80, 1.0)),
    "manifold_metrics": lambda: fidfast.manifold_metrics(features(60), features(80, 1.0)),
    "mind": lambda: fidfast.mind(features(60), features(80, 1.0), num_projections=9),
    "vendi": lambda: fidfast.vendi(features(60)),
    "inception_score": lambda: fidfast.inception_score(features(60)),
    "inception_score of one split": lambda: fidfast.inception_score(features(60), splits=1, like="torchmetrics"),
    "report": lambda: fidfast.report(features(60), features(80, 1.0)),
    "report without an error bar": lambda: fidfast.report(features(6), features(80, 1.0)),
    "HarmfulSample": lambda: fidfast.report(features(60), features(80, 1.0)).most_harmful[0],
    "ReferenceSample": lambda: fidfast.report(features(60), features(80, 1.0)).most_harmful[0].nearest,
    "Trimmed": lambda: fidfast.report(features(60), features(80, 1.0)).trimmed,
    "file_info": file_info,
    "image_cache": lambda: fidfast.ImageCache("cache", [fidfast.CachedMoments("a.npz", 10, 0.5, "net", 3, "a")], 0, 0),
    "environment": fidfast.environment,
    "demo_of_features": fidfast.demo_of_features,
    "CachedMoments": lambda: fidfast.CachedMoments("a.npz", 10, 0.5, None, None, None),
    "moments_of_features": lambda: fidfast.moments_of_features(features(60), shard="2/3"),
    "SourcePart": lambda: fidfast.SourcePart(2, 3, 60, "0a1b", ["b.png: not an image"]),
    "moments_of_images": lambda: fidfast.torch.ImageMoments(moments(), ["b.png: not an image"]),
    "features_of_images": image_features,
    "evaluate": lambda: fidfast.torch.evaluate(features(60), features(80, 1.0), metrics="fid,kid", estimate=True),
    "GrowingSample": growing_sample,
    "demo": lambda: fidfast.torch.DemoResult(1000, "net", 75.08, {"blurred": [48.18, 219.84]}, growing_sample()),
}


def public_subclasses(base):
    public = [getattr(module, name) for module in (fidfast, fidfast.torch) for name in module.__all__]
    return {value for value in public if inspect.isclass(value) and issubclass(value, base)}


def test_every_result_and_collector_is_tested():
    assert {type(make()) for make in RESULTS.values()} == public_subclasses(Result)
    assert {type(collector) for collector in COLLECTORS.values()} == public_subclasses(Collector)


# Results ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=RESULTS)
def result(request):
    return RESULTS[request.param]()


def test_results_are_frozen_dataclasses_that_unpack(result):
    names = [field.name for field in dataclasses.fields(result) if not field.kw_only]
    values = tuple(result)
    assert len(values) == len(names)
    assert all(value is getattr(result, name) for name, value in zip(names, values, strict=True))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(result, names[0], None)


def test_results_convert_to_json(result):
    dictionary = result.to_dict()
    text = json.dumps(dictionary, allow_nan=False)
    assert all(isinstance(key, str) for key in dictionary)
    if not isinstance(result, fidfast.ClassDistances):  # JSON converts its integer classes to strings
        assert json.loads(text) == dictionary


def test_str_of_results_is_one_line(result):
    text = str(result)
    assert text
    assert "\n" not in text
    assert "fidfast" not in text
    assert not text.startswith(type(result).__name__)


def test_html_of_results_is_a_table_of_all_keys(result):
    html = result._repr_html_()
    assert html.count("<table") == html.count("</table>") == 1
    assert html.count("<tr>") == html.count("</tr>") > 0
    if not isinstance(result, fidfast.Report):  # has the table of its page
        for key in result.to_dict():
            assert f'<th scope="row">{key}</th>' in html


def test_html_is_escaped():
    info = fidfast.FileInfo("<b>.npy", "features", {"extractor": "<script>"})
    html = info._repr_html_()
    assert "<b>" not in html
    assert "<script>" not in html


# Collectors ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=COLLECTORS)
def collector(request):
    return copy.copy(COLLECTORS[request.param])


def test_state_consists_of_arrays_and_from_state_is_its_inverse(collector):
    state = collector.state()
    for key, value in state.items():
        assert type(key) is str
        assert type(value) is np.ndarray
        assert value.dtype.kind in "fiubU", key
    assert type(collector).from_state(state) == collector
    again = type(collector).from_state(state).state()
    assert again.keys() == state.keys()
    assert all(np.array_equal(again[key], state[key]) for key in state)


def test_states_and_copies_share_no_memory(collector):
    state = collector.state()
    before = copy.deepcopy(state)
    copies = [copy.copy(collector), copy.deepcopy(collector), type(collector).from_state(state)]
    collector.reset()
    assert all(np.array_equal(state[key], before[key]) for key in state)
    assert all(one == copies[0] for one in copies)
    for value in state.values():
        if value.flags.writeable and value.dtype.kind == "f":
            value[...] = 7
    assert copies[2] == copies[0]


def test_checkpoints(collector, tmp_path):
    collector.save(tmp_path / "x")
    assert type(collector).load(tmp_path / "x.npz") == collector
    for other in {Moments, ClassMoments, InceptionScore, NgramCounts} - {type(collector)}:
        message = f"^{tmp_path / 'x.npz'} holds a checkpoint of {type(collector).__name__}, not a checkpoint of "
        with pytest.raises(ValueError, match=message + other.__name__):
            other.load(tmp_path / "x.npz")


def test_addition(collector):
    empty = copy.copy(collector)
    empty.reset()
    before = copy.copy(collector)
    total = collector + empty
    assert total == collector
    assert type(total) is type(collector)
    assert collector == before
    collector += empty
    assert collector == total
    with pytest.raises(TypeError):
        collector + 1
    with pytest.raises(TypeError):
        collector += None


ROWS = np.random.default_rng(0).standard_normal((90, 4))


@pytest.mark.parametrize(
    ("make", "add", "numbers"),
    [
        (lambda _: Moments(4), lambda c, i: c.update(ROWS[i]), lambda c: c.stats().sigma),
        (lambda _: ClassMoments(4), lambda c, i: c.update(ROWS[i], i % 3), lambda c: [c.stats(k).sigma for k in c]),
        (
            lambda first: InceptionScore(4, splits=3, length=90, first=first),
            lambda c, i: c.update(ROWS[i]),
            lambda c: c.compute().scores,
        ),
        (
            lambda _: NgramCounts(2),
            lambda c, i: c.update([str(k) for k in i]),
            lambda c: [count for _, count in c.most_common()],
        ),
    ],
    ids=["Moments", "ClassMoments", "InceptionScore", "NgramCounts"],
)
def test_sum_of_parts_equals_the_total(make, add, numbers):
    complete = make(0)
    add(complete, np.arange(90))
    parts = [make(first) for first in (0, 31)]
    add(parts[0], np.arange(31))
    add(parts[1], np.arange(31, 90))
    np.testing.assert_allclose(numbers(parts[0] + parts[1]), numbers(complete), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(numbers(parts[1] + parts[0]), numbers(complete), rtol=1e-12, atol=1e-13)


def test_equality(collector):
    assert collector != "collector"
    assert collector == copy.copy(collector)
    with pytest.raises(TypeError):
        hash(collector)


# Pickles ------------------------------------------------------------------------------------------------------------


def require_public(pickled):
    """The paths of private modules may change, so pickles must not contain them."""
    assert b"fidfast" in pickled
    assert b"fidfast._" not in pickled
    assert b"fidfast.torch._" not in pickled


def test_pickles_of_collectors_have_public_paths(collector):
    pickled = pickle.dumps(collector)
    require_public(pickled)
    assert pickle.loads(pickled) == collector


def test_pickles_of_results_have_public_paths(result):
    pickled = pickle.dumps(result)
    require_public(pickled)
    loaded = pickle.loads(pickled)
    assert type(loaded) is type(result)
    assert loaded.to_dict() == result.to_dict()


@pytest.mark.parametrize("n", [3, 50])
def test_pickles_of_statistics_have_public_paths(n):
    stats = Moments.from_features(np.random.default_rng(0).standard_normal((n, 8)), extractor="net").stats()
    for original in (stats, GaussianStats(stats.mu, stats.sigma)):
        pickled = pickle.dumps(original)
        require_public(pickled)
        assert pickle.loads(pickled) == original
