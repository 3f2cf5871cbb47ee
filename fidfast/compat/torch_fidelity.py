"""The function and the keys of torch-fidelity: ``from fidfast.compat.torch_fidelity import calculate_metrics``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fidfast._inputs import open_input
from fidfast._metrics.frechet import frechet_distance
from fidfast._metrics.inception_score import inception_score
from fidfast._metrics.kernel import kid_subsets
from fidfast._metrics.neighbours import precision_recall
from fidfast._stats import GaussianStats
from fidfast.compat._fidelity_inputs import fidelity_input
from fidfast.compat._fidelity_keywords import checked_keywords

if TYPE_CHECKING:
    from fidfast.torch._extractors.fidelity import Layer
    from fidfast.torch._images.collection import Collected

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

#: By metric: a keyword, and by how much the number of images must exceed it at least.
_LEAST = {"isc": ("isc_splits", 0), "kid": ("kid_subset_size", 0), "prc": ("prc_neighborhood", 1)}


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
        from fidfast.torch._extractors.fidelity import default_layer
    except ImportError as error:
        raise ImportError(f"calculate_metrics needs torch-fidelity: pip install 'fidfast[images]' ({error})") from error
    layers = {
        metric: default_layer(metric, values["feature_extractor"], values[f"feature_layer_{metric}"])
        for metric in ("isc", "fid", "kid", "prc")
        if values[metric]
    }
    file = values["fid_statistics_file"]
    statistics = None if file is None or not values["fid"] else open_input(file, "fid_statistics_file").stats
    return _metrics_of_features(layers, _features(layers, values), statistics, values)


def _features(layers: Mapping[str, Layer], values: Mapping[str, Any]) -> dict[str, dict[Layer, Collected]]:
    """For each input, what its metrics need of the features of each layer: moments for the FID, rows for the others."""
    from fidfast.torch import ImageOptions
    from fidfast.torch._extractors.fidelity import load_layers
    from fidfast.torch._images.checks import first_image, open_images_of
    from fidfast.torch._images.collection import Need, collect_of_source
    from fidfast.torch._images.options import with_label

    options = ImageOptions(
        batch_size=values["batch_size"],
        num_workers=0 if values["save_cpu_ram"] else None,
        device=None if values["cuda"] else "cpu",
        compile=True if values["feature_extractor_compile"] else "auto",
        progress=values["verbose"],
    )
    metrics = {"input1": set(layers), "input2": set(layers) - {"isc"}}
    if values["fid_statistics_file"] is not None:
        metrics["input2"].discard("fid")
    opened = {}
    for name in (name for name, needing in metrics.items() if needing):
        opened[name] = open_images_of(fidelity_input(name, values), name, options, 2 if values["fid"] else 1)
        first_image(opened[name], name, options)
        length = opened[name].length
        for keyword, least in (_LEAST[metric] for metric in metrics[name] & _LEAST.keys()):
            if length is not None and length < values[keyword] + least:
                raise ValueError(
                    f"{keyword} must be at most {length - least}, since {name} has {length} images, "
                    f"got {values[keyword]}"
                )
    extractors = load_layers(
        set(layers.values()),
        weights=values["feature_extractor_weights_path"],
        dtype=values["feature_extractor_internal_dtype"],
        verbose=values["verbose"],
    )
    found = {}
    for name, source in opened.items():
        kinds: dict[Layer, set[str]] = {}
        for metric in metrics[name]:
            kinds.setdefault(layers[metric], set()).add("moments" if metric == "fid" else "rows")
        needs = [
            Need(extractors[layer], moments="moments" in kind, rows="rows" in kind) for layer, kind in kinds.items()
        ]
        collection, _ = collect_of_source(source, needs, with_label(options, name))
        found[name] = dict(zip(kinds, collection.parts, strict=True))
    return found


def _metrics_of_features(
    layers: Mapping[str, Layer],
    features: Mapping[str, Mapping[Layer, Collected]],
    statistics: GaussianStats | None,
    values: Mapping[str, Any],
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
        sides = [side[layers["fid"]].moments for side in features.values() if layers["fid"] in side]
        metrics[KEY_METRIC_FID] = frechet_distance(sides[0], sides[1] if statistics is None else statistics)
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
