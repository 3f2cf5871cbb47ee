"""The function and the keys of torch-fidelity: ``from fidfast.compat.torch_fidelity import calculate_metrics``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fidfast._inputs import open_input
from fidfast._metrics.frechet import frechet_distance
from fidfast._metrics.inception_score import inception_score
from fidfast._metrics.kernel import kid_subsets
from fidfast._metrics.neighbours import precision_recall
from fidfast.compat._fidelity_inputs import fidelity_input
from fidfast.compat._fidelity_keywords import checked_keywords

if TYPE_CHECKING:
    from fidfast.torch._extractors.fidelity import Layer

__all__ = [
    "KEY_METRIC_FID",
    "KEY_METRIC_F_SCORE",
    "KEY_METRIC_ISC_MEAN",
    "KEY_METRIC_ISC_STD",
    "KEY_METRIC_KID_MEAN",
    "KEY_METRIC_KID_STD",
    "KEY_METRIC_PRECISION",
    "KEY_METRIC_RECALL",
    "calculate_metrics",
]

KEY_METRIC_ISC_MEAN = "inception_score_mean"
KEY_METRIC_ISC_STD = "inception_score_std"
KEY_METRIC_FID = "frechet_inception_distance"
KEY_METRIC_KID_MEAN = "kernel_inception_distance_mean"
KEY_METRIC_KID_STD = "kernel_inception_distance_std"
KEY_METRIC_PRECISION = "precision"
KEY_METRIC_RECALL = "recall"
KEY_METRIC_F_SCORE = "f_score"

#: The metrics that need the features of an input themselves.
_METRICS_OF_ROWS = {"input1": ("isc", "kid", "prc"), "input2": ("kid", "prc")}


def calculate_metrics(**kwargs: Any) -> dict[str, float]:
    """Metrics of one or two sets of images, with the keywords and the keys of ``torch_fidelity.calculate_metrics``.

    Parameters
    ----------
    input1, input2 : path, Dataset or GenerativeModelBase
        Samples and reference: a folder, the name of a registered dataset, a torch Dataset, or a generator with
        ``inputN_model_num_samples``. Also any other source that `fidfast.torch.moments_of_images` accepts.
    isc, fid, kid, prc : bool, default False
        The metrics.
    fid_statistics_file : path, optional
        Statistics of the reference for the FID, instead of `input2`; as in the fork of torch-fidelity that MAR,
        LightningDiT and JiT use. Any file that `fidfast.fid` reads.
    feature_extractor, feature_layer_isc, feature_layer_fid, feature_layer_kid, feature_layer_prc : str, optional
        A network of torch-fidelity's registry and its layers, by default the Inception network, and VGG-16 for `prc`.
    feature_extractor_weights_path : path, optional
    isc_splits, kid_subsets, kid_subset_size, kid_kernel_poly_degree, kid_kernel_poly_gamma, kid_kernel_poly_coef0
        As in torch-fidelity; also ``kid_degree``, ``kid_gamma`` and ``kid_coef0``.
    prc_neighborhood, samples_shuffle, samples_find_deep, samples_find_ext, samples_resize_and_crop, rng_seed
        As in torch-fidelity.
    cuda : bool, default True
        Whether to use a GPU if there is one.
    batch_size : int, optional
        Images per batch. By default as in `fidfast.torch.ImageOptions`.
    save_cpu_ram : bool, default False
        True reads the images in the process of the caller.
    verbose : bool, default True
        Whether to show progress on standard error.
    **kwargs
        All other keywords of torch-fidelity do not change the result, and have no effect: ``cache``, ``cache_root``,
        ``input1_cache_name``, ``prc_batch_size``, ``samples_ext_lossy`` and ``feature_extractor_internal_dtype``
        (torch-fidelity 0.4 takes "float64" for float32), and ``ppl_...`` without ``ppl``.

    Returns
    -------
    dict of str to float
        The keys of torch-fidelity: ``inception_score_mean``, ``frechet_inception_distance``, ...

    Raises
    ------
    TypeError, ValueError
        If a keyword is unknown or has an invalid value; and for ``ppl=True`` and ``kid_kernel="rbf"``, which are not
        available.
    FileNotFoundError
        If a path does not exist, or weights are neither found nor can be downloaded.
    ImportError
        If torch-fidelity is not installed.

    Warns
    -----
    UserWarning
        If the weights are not those of 2015-12-05.
    FutureWarning
        If ``kid_degree``, ``kid_gamma`` or ``kid_coef0`` is used, as in torch-fidelity.

    Notes
    -----
    Results equal those of torch-fidelity up to the rounding of its network and its ``eigvals``; docs/migrating.md lists
    the exceptions.
    """
    values = checked_keywords(kwargs)
    try:
        from fidfast.torch._extractors.fidelity import default_layer, load_layers
    except ImportError as error:
        raise ImportError(f"calculate_metrics needs torch-fidelity: pip install 'fidfast[images]' ({error})") from error
    metrics = [name for name in ("isc", "fid", "kid", "prc") if values[name]]
    layers = {
        name: default_layer(name, values["feature_extractor"], values[f"feature_layer_{name}"]) for name in metrics
    }
    sources = {name: fidelity_input(name, values) for name in ("input1", "input2") if _is_needed(name, values)}
    extractors = load_layers(
        set(layers.values()),
        weights=values["feature_extractor_weights_path"],
        dtype=values["feature_extractor_internal_dtype"],
        verbose=values["verbose"],
    )
    return _metrics_of_features(layers, _features(sources, layers, extractors, values), values)


def _is_needed(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a metric uses the images of an input."""
    needs = values["kid"] or values["prc"] or (values["fid"] and values["fid_statistics_file"] is None)
    return name == "input1" or needs


def _features(
    sources: Mapping[str, Any], layers: Mapping[str, Layer], extractors: Mapping[Layer, Any], values: Mapping[str, Any]
) -> dict[str, dict[Layer, Any]]:
    """For each input, the collected features of each layer: moments for the FID, rows for the other metrics."""
    from fidfast.torch import ImageOptions
    from fidfast.torch._images.collection import Need, collect_of_source
    from fidfast.torch._images.options import with_label
    from fidfast.torch._images.sources import open_source

    options = ImageOptions(
        batch_size=values["batch_size"],
        num_workers=0 if values["save_cpu_ram"] else None,
        device=None if values["cuda"] else "cpu",
        compile=True if values["feature_extractor_compile"] else "auto",
        progress=values["verbose"],
    )
    opened = {name: open_source(source, options, name=name) for name, source in sources.items()}
    found = {}
    for name, source in opened.items():
        needs = {
            layer: Need(
                extractor,
                moments="fid" in layers and layers["fid"] == layer,
                rows=any(layers.get(metric) == layer for metric in _METRICS_OF_ROWS[name]),
            )
            for layer, extractor in extractors.items()
        }
        needs = {layer: need for layer, need in needs.items() if not need.is_empty}
        collection, _ = collect_of_source(source, list(needs.values()), with_label(options, name))
        found[name] = dict(zip(needs, collection.parts, strict=True))
    return found


def _metrics_of_features(
    layers: Mapping[str, Layer], features: Mapping[str, Mapping[Layer, Any]], values: Mapping[str, Any]
) -> dict[str, float]:
    """The metrics in torch-fidelity's order."""
    metrics: dict[str, float] = {}
    rows = {
        name: [side[layer].rows for side in features.values() if layer in side]
        for name, layer in layers.items()
        if name != "fid"
    }
    if values["isc"]:
        like = "torch-fidelity" if values["samples_shuffle"] else "improved-gan"
        seed = values["rng_seed"] if values["samples_shuffle"] else None
        score = inception_score(rows["isc"][0], splits=values["isc_splits"], like=like, seed=seed)
        metrics[KEY_METRIC_ISC_MEAN], metrics[KEY_METRIC_ISC_STD] = score.mean, score.std
    if values["fid"]:
        file = values["fid_statistics_file"]
        one, two = features["input1"][layers["fid"]], features.get("input2", {}).get(layers["fid"])
        reference = open_input(file, "fid_statistics_file") if two is None or file is not None else two.moments
        metrics[KEY_METRIC_FID] = frechet_distance(open_input(one.moments, "input1"), reference)
    if values["kid"]:
        subsets = kid_subsets(
            *rows["kid"],
            subsets=values["kid_subsets"],
            subset_size=values["kid_subset_size"],
            seed=values["rng_seed"],
            degree=values["kid_kernel_poly_degree"],
            gamma=values["kid_kernel_poly_gamma"],
            coef0=values["kid_kernel_poly_coef0"],
        )
        metrics[KEY_METRIC_KID_MEAN], metrics[KEY_METRIC_KID_STD] = subsets.mean, float(subsets.values.std())
    if values["prc"]:
        found = precision_recall(*rows["prc"], k=values["prc_neighborhood"])
        metrics[KEY_METRIC_PRECISION], metrics[KEY_METRIC_RECALL] = found.precision, found.recall
        # The harmonic mean; torch-fidelity divides by at least 1e-5.
        metrics[KEY_METRIC_F_SCORE] = 2 * found.precision * found.recall / max(1e-5, found.precision + found.recall)
    return metrics
