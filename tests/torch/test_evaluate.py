"""Every number of `evaluate` is that of the separate function on the same features."""

from dataclasses import replace

import numpy as np
import pytest
from evaluations import DIMS, OPTIONS, Networks, evaluate, images

import fidfast
import fidfast.torch as ft
from fidfast._files import write_several_stats
from fidfast._stats import record_of_stats
from fidfast.torch._evaluation import networks as module
from fidfast.torch._evaluation.names import network_of

#: All metrics with the features of the small networks.
EVERY = (
    "is", "fid", "sfid", "kid", "precision", "recall", "density", "coverage", "vendi", "mind", "cmmd@inception",
    "fd-means", "kid@means",
)  # fmt: skip

#: Moments of a stream differ from those of an array by rounding.
ROUNDING = 1e-9


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture(scope="module")
def sides():
    return images(0, 200), images(1, 150, high=230)


@pytest.fixture(scope="module")
def rows(sides):
    """Features of both sides by name of the extractor."""
    networks = Networks()
    return {name: [networks.features(name, side) for side in sides] for name in networks.extractors}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_each_number_is_that_of_its_function(networks, sides, rows):
    found = evaluate(networks, *sides, metrics=EVERY)
    score = fidfast.InceptionScore(DIMS["inception-logits"])
    score.update(rows["inception-logits"][0])
    pool, means = rows["inception"], rows["means"]
    expected = {
        "is": score.compute().mean,
        "fid": fidfast.fid(*pool),
        "sfid": fidfast.fid(*rows["inception-spatial"]),
        "kid": fidfast.kid(*pool).value,
        **fidfast.manifold_metrics(*pool).to_dict(),
        "vendi": fidfast.vendi(pool[0]).value,
        "mind": fidfast.mind(*pool, seed=2020).value,
        "cmmd@inception": fidfast.cmmd(*map(unit, pool)),
        "fd-means": fidfast.fid(*means),
        "kid@means": fidfast.kid(*means).value,
    }
    assert list(found.values) == list(EVERY)
    for name in EVERY:
        assert found[name] == pytest.approx(expected[name], rel=ROUNDING), name
    assert found.num_samples["fid"] == (200, 150)
    assert found.num_samples["is"] == (200,)
    assert (found.like, found.seed) == (None, 2020)
    assert not any(found.stderr.values())


def test_all_networks_run_once(networks, sides):
    evaluate(networks, *sides, metrics=EVERY)
    assert networks.seen == 350


def test_estimates(networks, sides, rows):
    found = evaluate(networks, *sides, metrics=EVERY, estimate=True)
    for name, extractor in (("fid", "inception"), ("sfid", "inception-spatial"), ("fd-means", "means")):
        estimate = fidfast.estimate(*rows[extractor])
        assert found[name] == pytest.approx(estimate.unbiased, rel=1e-6), name
        assert found.stderr[name] == pytest.approx(estimate.stderr, rel=1e-6), name
        assert found.results[name].value == pytest.approx(estimate.value, rel=ROUNDING)
        assert f"{found.labels[name]} {estimate.value:.8g}" in found.table()
    assert found.stderr["kid"] == pytest.approx(fidfast.kid(*rows["inception"]).stderr)
    scores = found.results["is"].scores
    assert found.stderr["is"] == pytest.approx(np.std(scores, ddof=1) / np.sqrt(10))
    assert found.stderr["precision"] is None
    assert f"KID              {found.text('kid')}" in found.table()


def test_blocks_replace_rows_in_estimates(networks, sides, rows):
    """Moments with blocks have an error without the features in memory."""
    found = evaluate(networks, *sides, metrics="fd-means", estimate=True, blocks=20)
    moments = []
    for side in rows["means"]:
        moments.append(fidfast.Moments(3, blocks=20))
        for first in range(0, len(side), 8):  # the batches of the pass
            moments[-1].update(side[first : first + 8])
    expected = fidfast.estimate(*moments)
    assert found["fd-means"] == pytest.approx(expected.unbiased, rel=1e-6)
    assert found.stderr["fd-means"] == pytest.approx(expected.stderr, rel=1e-6)


def test_conventions_of_tools(networks, sides, rows):
    found = evaluate(networks, *sides, metrics="is,fid", like="stylegan3")
    stats = [fidfast.Moments.from_features(one).stats(ddof=0) for one in rows["inception"]]
    assert found["fid"] == pytest.approx(fidfast.fid(*stats), rel=ROUNDING)
    logits = rows["inception-logits"][0]
    assert found["is"] == pytest.approx(fidfast.inception_score(logits, like="stylegan3").mean, rel=ROUNDING)
    assert found.seed is None
    for tool in ("torch-fidelity", "torchmetrics"):
        found = evaluate(networks, *sides, metrics="is", like=tool, seed=5)
        expected = fidfast.inception_score(logits, like=tool, seed=5)
        assert found["is"] == pytest.approx(expected.mean, rel=ROUNDING)
        assert (found.results["is"].like, found.seed) == (tool, 5)
    with pytest.raises(ValueError, match="kid needs at least 1,000 samples like torchmetrics; samples has 200: pass"):
        evaluate(networks, *sides, metrics="kid", like="torchmetrics")
    found = evaluate(networks, *sides, metrics="kid", like="clean-fid")
    assert found["kid"] == fidfast.kid_subsets(*rows["inception"], like="clean-fid", seed=2020).mean
    with pytest.raises(ValueError, match="like must be one of 'torch-fidelity', "):
        evaluate(networks, *sides, like="dall-e")


def test_the_fdr_is_the_mean_of_ratios(networks, sides, monkeypatch):
    from fidfast.torch._evaluation import metrics

    distances = {"inception": 2.0, "means": 0.5}
    monkeypatch.setattr(metrics, "FDR_DISTANCES", distances)
    table = metrics.METRICS["fdr"]
    monkeypatch.setitem(metrics.METRICS, "fdr", metrics.replace(table, extractors=tuple(distances)))
    found = evaluate(networks, *sides, metrics="fdr,fid,fd-means")
    assert found["fdr"] == pytest.approx((found["fid"] / 2 + found["fd-means"] / 0.5) / 2)
    assert found.results["fdr"]["distances"] == {"inception": found["fid"], "means": found["fd-means"]}
    assert networks.seen == 350


# What the sides hold ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stats(rows):
    """Statistics of the reference by extractor."""
    return {
        name: fidfast.Moments.from_features(rows[name][1], extractor=name).stats()
        for name in ("inception", "inception-spatial", "means")
    }


def test_statistics_of_several_extractors(networks, sides, stats, tmp_path):
    write_several_stats(tmp_path / "reference.npz", {name: record_of_stats(one) for name, one in stats.items()})
    expected = evaluate(networks, *sides, metrics="is,fid,sfid,fd-means")
    seen = networks.seen
    found = evaluate(networks, sides[0], tmp_path / "reference.npz", metrics="is,fid,sfid,fd-means")
    assert found.values == pytest.approx(expected.values, rel=ROUNDING)
    assert networks.seen - seen == 200  # the samples
    assert found.notes == ()
    assert evaluate(networks, sides[0], stats, metrics="is,fid,sfid,fd-means").values == found.values


def test_statistics_of_an_extractor_with_another_name(networks, sides, tmp_path, monkeypatch):
    """Files have the name that an extractor gives itself, not that of the factory or of the argument."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_network.py").write_text(
        "import fidfast.torch as ft\n"
        "def make():\n"
        "    return ft.Extractor(lambda images: images.mean(dim=(2, 3)), 'mine', input_size=(8, 8), num_features=3)\n"
    )
    path, options = tmp_path / "reference.npz", {"metrics": "fid@own_network:make", **OPTIONS}
    reference = ft.stats_of_images(sides[1], ft.load_extractor("own_network:make"), **OPTIONS)
    reference.save(path)
    assert reference.extractor == "mine/pil-bicubic-8"
    expected = ft.evaluate(*sides, **options).values
    assert ft.evaluate(sides[0], path, **options).values == pytest.approx(expected, rel=ROUNDING)
    with pytest.warns(UserWarning, match="due to the different resize"):
        resized = ft.evaluate(sides[0], path, **options, resize="torch-bilinear")
    assert resized.extractors == {"fid@own_network:make": "mine/torch-bilinear-8 and mine/pil-bicubic-8"}
    networks.extractors["means"] = replace(networks.extractors["means"], name="averages")
    stats = ft.stats_of_images(sides[1], networks.extractors["means"], **OPTIONS)
    assert evaluate(networks, sides[0], stats, metrics="fd-means")["fd-means"] == pytest.approx(
        evaluate(networks, *sides, metrics="fd-means")["fd-means"], rel=ROUNDING
    )


def adm_batch(path, side, stats):
    """A file as ADM's reference batches: images, and statistics of more images."""
    names = {"mu": stats["inception"].mu, "sigma": stats["inception"].sigma}
    spatial = {"mu_s": stats["inception-spatial"].mu, "sigma_s": stats["inception-spatial"].sigma}
    np.savez(path, arr_0=side, **names, **spatial)
    return path


def test_a_file_with_images_and_statistics(networks, sides, stats, tmp_path):
    """Distances are those to the statistics, precision and recall those of the images, and the result says so."""
    path = adm_batch(tmp_path / "VIRTUAL.npz", sides[1][:60], stats)
    found = evaluate(networks, sides[0], path)
    whole, part = evaluate(networks, *sides), evaluate(networks, sides[0], sides[1][:60])
    for name, expected in (("is", whole), ("fid", whole), ("sfid", whole), ("precision", part), ("recall", part)):
        assert found[name] == pytest.approx(expected[name], rel=ROUNDING), name
    (note,) = found.notes
    assert note.startswith(f"reference: {path} holds statistics of inception and inception-spatial, and images; used: ")
    assert note.endswith("used: its statistics for FID, sFID; its images for Precision, Recall")
    assert note in found.table()
    assert found.num_samples["fid"] == (200, None)
    assert found.num_samples["recall"] == (200, 60)
    # The network does not run for what the file has.
    seen = networks.seen
    evaluate(networks, sides[0], path, metrics="fid,sfid")
    assert networks.seen - seen == 200


def test_statistics_of_the_reference_are_exact_in_estimates(networks, sides, rows, stats, tmp_path):
    path = adm_batch(tmp_path / "VIRTUAL.npz", sides[1][:60], stats)
    found = evaluate(networks, sides[0], path, metrics="fid", estimate=True)
    expected = fidfast.estimate(rows["inception"][0], stats["inception"])
    assert found["fid"] == pytest.approx(expected.unbiased, rel=1e-6)
    assert found.results["fid"].num_samples == (200, None)
    with pytest.raises(ValueError, match="fid: estimate=True needs images, features, or Moments"):
        evaluate(networks, stats["inception"], path, metrics="fid", estimate=True)


def test_features_moments_and_files(networks, sides, rows, tmp_path):
    samples, reference = rows["inception"]
    np.save(tmp_path / "samples.npy", samples)
    metrics = "fid,kid,precision"
    expected = evaluate(networks, *sides, metrics=metrics)
    for one, two in ((samples, reference), (tmp_path / "samples.npy", reference), (sides[0], reference)):
        found = evaluate(networks, one, two, metrics=metrics)
        assert found.values == pytest.approx(expected.values, rel=ROUNDING)
    assert evaluate(networks, samples, reference, metrics="fid").extractors == {"fid": None}
    assert "Fréchet distance " in str(evaluate(networks, samples, reference, metrics="fid"))
    moments = fidfast.Moments.from_features(reference, extractor="inception")
    assert evaluate(networks, samples, moments, metrics="fid")["fid"] == pytest.approx(expected["fid"], rel=ROUNDING)
    (logits, _), score = rows["inception-logits"], fidfast.InceptionScore(DIMS["inception-logits"])
    score.update(logits)
    assert evaluate(networks, logits, None, metrics="is")["is"] == score.compute().mean


def test_what_cannot_be_computed_is_an_error_before_a_network_runs(networks, sides, stats, tmp_path):
    path = tmp_path / "reference.npz"
    stats["inception"].save(path)
    two = tmp_path / "two.npz"
    np.savez(
        two, **{f"{name}_{one}": array for one in "ab" for name, array in (("mu", np.zeros(2)), ("sigma", np.eye(2)))}
    )
    for metrics, reference, message in (
        ("is,fid,kid", path, "kid needs images, or features of inception, as reference, but .*reference.npz holds "
         r"statistics of inception: pass one of these, or metrics='is,fid'"),
        (None, path, "sfid needs images, or statistics or features of inception-spatial, as reference, but .*"
         "or metrics='is,fid'"),
        ("fd-means", path, "fd-means needs images, or statistics or features of means, as reference"),
        ("recall", stats["inception"], "recall needs .* as reference, but GaussianStats holds statistics of inception"),
        ("fid", None, "fid needs .* as reference, which is not given"),
        ("fidd", path, r"metrics: unknown metric 'fidd'; did you mean 'fid'\?"),
        ("xyz", path, "metrics: unknown metric 'xyz'; the metrics are is, fid, sfid, "),
        ("sfid@means", path, "metrics: sfid is defined for inception-spatial, not for means; use fd-means"),
        ("kid@", path, "metrics: 'kid@' names no extractor after @"),
        ("precision", sides[1][:3], "precision needs at least 4 samples; reference has 3: pass more, or leave"),
        ("fd-means", fidfast.GaussianStats(np.zeros(2), np.eye(2), extractor="means"),
         "reference has dim 2, but the extractor means has dim 3"),
        ("fd-nothing", sides[1], "unknown extractor 'nothing'"),
        ("fid", tmp_path / "gone.npz", "no such file"),
        ("fid", two, r"two.npz holds statistics of an unknown extractor \('mu_a,sigma_a'\) and an unknown extractor "
         r"\('mu_b,sigma_b'\): pass one of these, or choose one with `fidfast stats .*two.npz OUT --key mu_a,sigma_a`"),
    ):  # fmt: skip
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            evaluate(networks, sides[0], reference, metrics=metrics)
    with pytest.raises(ValueError, match="is needs at least 10 samples; samples has 9"):
        evaluate(networks, sides[0][:9], None, metrics="is")
    assert networks.seen == 0


@pytest.mark.parametrize(
    ("full", "network"),
    [
        ("inception", "inception"),
        ("inception-2015-12-05/tf1-bilinear-299", "inception"),
        ("inception-spatial-weights-0123abcd/tf1-bilinear-299", "inception-spatial"),
        ("dinov2", "dinov2-vitl14"),
        ("small_network:make/pil-bicubic-32", "small_network:make"),
    ],
)
def test_network_of_a_full_name(full, network):
    assert network_of(full) == network


def test_images_are_processed_as_those_of_the_statistics(networks, sides, rows, monkeypatch):
    """By all outputs of the Inception network, unless a tool or a resize is given."""
    loaded = {name: replace(one, input_size=(8, 8), resize="tf1-bilinear") for name, one in networks.extractors.items()}

    def load(names, *, weights, like, resize):
        return [loaded[name] if resize is None else replace(loaded[name], resize=resize) for name in names]

    monkeypatch.setattr(module, "load_extractors", load)
    full = "inception/torch-bilinear-6/divisor-127.5"
    stats = fidfast.Moments.from_features(rows["inception"][1], extractor=full).stats()
    found = ft.evaluate(sides[0], stats, metrics="is,fid", **OPTIONS)
    assert found.extractors == {"is": full.replace("inception", "inception-logits"), "fid": full}
    with pytest.warns(UserWarning, match="part of the result is due to the different resize"):
        found = ft.evaluate(sides[0], stats, metrics="fid", resize="pil-bicubic", **OPTIONS)
    assert found.extractors == {"fid": f"inception/pil-bicubic-8 and {full}"}
    stats = fidfast.Moments.from_features(rows["inception"][1], extractor="inception/tf1-bilinear-8/bfloat16").stats()
    with pytest.raises(ValueError, match="dtype='bfloat16' needs a network that can be prepared"):
        ft.evaluate(sides[0], stats, metrics="fid", **OPTIONS)


def renamed(networks, suffix):
    """The same extractors, whose names end with a digest of weights."""
    return {name: replace(one, name=f"{name}{suffix}") for name, one in networks.extractors.items()}


@pytest.mark.parametrize("like", [None, "adm"])
def test_labels_of_other_weights(networks, sides, stats, tmp_path, like):
    path = adm_batch(tmp_path / "VIRTUAL.npz", sides[1][:60], stats)
    extractors = renamed(networks, "-weights-01234567")
    labels = {"fid": "Fréchet distance", "sfid": "spatial Fréchet distance"}
    options = {**OPTIONS, "metrics": list(labels), "extractors": extractors, "like": like}
    assert ft.evaluate(*sides, **options).labels == labels
    with pytest.warns(UserWarning, match="different extractors"):
        found = ft.evaluate(sides[0], path, **options)
    assert found.labels == labels
    assert found.notes[0].endswith("used: its statistics for Fréchet distance, spatial Fréchet distance")
