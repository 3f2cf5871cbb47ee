"""The kind of every argument of the public callables, by its name and, where the name is not enough, by function."""

from dataclasses import replace

import numpy as np
import torch
from fuzz_objects import Pooled, identity, metric
from fuzz_values import (
    BOOL,
    CLASSES,
    DIM,
    FEATURES,
    NAME,
    NOT_ARRAYS,
    NOT_DENSE,
    NOT_FEATURES,
    PATH,
    SOURCE,
    TEXT,
    Kind,
    N,
    choice,
    class_moments,
    counts,
    foreign,
    generator,
    images,
    integer,
    moments,
    network,
    real,
    rows,
    score,
    stats,
    texts,
)

import fidfast
import fidfast.torch as ft
from fidfast.jax import to_array

_NUMBER_JUNK = ("2**31 - 1", "10**400")
STATE = Kind((), ("3", "str", "list", "object", "1-d"))
OTHER = Kind((), ("3", "str", "object", "list", "tensor", "result"))
_EXTRACTOR = Kind(
    (lambda _: network, lambda _: Pooled(), lambda _: ft.as_extractor(network)),
    ("3", "list", "object", "bytes", "tensor", "empty str"),
    slow=("function", "class", "tensor class"),
)
_IMAGES = Kind(
    (images, lambda rng: torch.from_numpy(images(rng)).movedim(3, 1), lambda rng: list(images(rng))),
    ("3", "object", "True", "1-d", "complex"),
)
_BATCH = Kind(
    (lambda _: torch.rand(4, 3, 4, 4), lambda rng: images(rng)),
    ("3", "str", "list", "object", "1-d", "sparse tensor", "quantized", "nested", "meta", "fake"),
)
_PREDICTIONS = replace(FEATURES, good=(lambda rng: rows(rng, N, CLASSES),))
_SEED = integer(0, 2**31)
_DEVICE = Kind((lambda _: "cpu", lambda _: torch.device("cpu")), ("str", "2.5", "list", "object"), optional=True)
_OPTIONAL = {"optional": True}
#: Callables with other arguments, which raise errors of their own.
_FOREIGN = ("function", "class", "tensor class")
_CALLABLE = Kind((lambda _: generator,), ("3", "str", "list", "None", "tensor"), slow=_FOREIGN)
_MATRIX = tuple(name for name in (*NOT_ARRAYS, *NOT_DENSE) if name not in ("3", "closed file"))

#: Kinds by name of the argument.
BY_NAME: dict[str, Kind] = {
    "samples": SOURCE,
    "reference": SOURCE,
    "features_a": SOURCE,
    "features_b": SOURCE,
    "samples_a": FEATURES,
    "samples_b": FEATURES,
    "features": FEATURES,
    "predictions": _PREDICTIONS,
    "precision": choice("float32", "float64"),
    "negative_tolerance": real(0.0, 1e-6, bad=("-1", "3", "inf")),
    "k": integer(1, 4),
    "inclusive": BOOL,
    "degree": integer(1, 4),
    "gamma": real(0.1, 1, bad=("-1", "0", "inf"), optional=True),
    "coef0": real(0.0, 1, bad=("-1", "inf")),
    "sigma": real(1.0, 10, bad=("-1", "0")),
    "subsets": integer(1, 3, slow=_NUMBER_JUNK),
    "subset_size": integer(2, 8),
    "seed": _SEED,
    "num_points": integer(2, 4),
    "min_samples": integer(2, 8, optional=True),
    "splits": integer(1, 3, optional=True),
    "split_size": integer(2, 9, optional=True),
    "num_projections": integer(2, 4, slow=_NUMBER_JUNK),
    "q": real(0.0, 1, 2, bad=("-1",)),
    "kernel": choice("cosine"),
    "from_logits": BOOL,
    "paired": BOOL,
    "groups": Kind((lambda _: None,), ("3", "str", "object", "2.5", "1j", "dict"), optional=True),
    "skip_incomplete": BOOL,
    "mean_over": choice("samples", "reference"),
    "threshold": real(0.1, 1, bad=("-1", "0", "inf")),
    "level": real(0.5, 0.95, bad=("-1", "0", "3", "inf")),
    "older_than": real(1e9, optional=True, bad=("-1",)),
    "max_size": real(1e12, optional=True, bad=("-1",)),
    "clear": BOOL,
    "path": PATH,
    "state": STATE,
    "other": OTHER,
    "blocks": integer(1, 3),
    "dim": integer(1, 4),
    "num_classes": integer(1, 4),
    "extractor": NAME,
    "device": _DEVICE,
    "stream": Kind((lambda _: None,), ("2.5", "str", "list", "-1"), optional=True),
    "ddof": integer(0, 2),
    "labels": Kind(
        (lambda rng: rng.integers(0, 2, N), lambda _: "a", lambda _: 0, lambda _: ["a"] * N),
        ("2.5", "object", "1j", "sparse tensor", "dates", "None"),
    ),
    "label": Kind((lambda _: 0, lambda _: 1), ("list", "1-d"), optional=True),
    "length": integer(20, 40, optional=True),
    "first": integer(0, 3),
    "n": integer(1, 3),
    "level_of_texts": choice("char", "word"),
    "texts": Kind(
        (texts, lambda rng: " ".join(texts(rng))),
        ("3", "object", "bytes", "list of None", "1-d", "None"),
        slow=("closed file",),
    ),  # which raises an error of its own
    "threads": integer(1, 3, optional=True),
    "key": NAME,
    "mu": Kind((lambda rng: rng.normal(size=DIM), lambda _: [0.0] * DIM), _MATRIX),
    "num_samples": integer(2, 9, slow=_NUMBER_JUNK, optional=True),
    "product_errors": Kind((lambda _: (), lambda _: np.ones(DIM)), _MATRIX),
    "names": Kind((lambda _: list(map(str, range(N))),), ("3", "object", "2.5"), optional=True),
    "images": Kind(
        (lambda rng: rng.integers(0, 256, (N, 5, 6, 3), dtype=np.uint8),), ("3", "object", "2.5"), optional=True
    ),
    "titles": Kind((lambda _: ("a", "b"),), ("3", "str", "object", "list of None", "1-d"), optional=True),
    "command": NAME,
    "most_harmful": integer(0, 3),
    "all_pairs": BOOL,
    "progress": Kind((lambda _: False,), ("3", "object", "list")),
    "like": choice("torch-fidelity", "torchmetrics", "clean-fid"),
    "source": _IMAGES,
    "options": Kind((lambda _: ft.ImageOptions(num_workers=0),), ("3", "str", "object", "dict"), optional=True),
    "keywords": foreign(None),
    "sources": Kind((lambda rng: {"samples": images(rng)},), ("3", "str", "object", "list", "1-d")),
    "min_images": integer(1, 3),
    "rows": BOOL,
    "model": Kind((lambda _: Pooled(),), ("3", "str", "object", "None", "tensor")),
    "name": NAME,
    "resize": Kind((lambda _: "pil-bicubic",), ("3", "str", "object", "list"), optional=True),
    "layer": Kind((lambda _: "0",), ("3", "object", "list")),
    "weights": replace(PATH, good=(lambda _: None,), optional=True),
    "dtype": choice("float32"),
    "compile": Kind((lambda _: False,), ("str", "3", "list", "object", "None")),
    "num_images": integer(0, 9, optional=True),
    "batch_size": integer(1, 4),
    "image": Kind(
        (lambda _: torch.rand(3, 6, 5),), ("3", "str", "object", "1-d", "0-d tensor", "sparse tensor", "nested")
    ),
    "method": choice(*ft.RESIZES),
    "size": Kind((lambda _: (4, 5),), ("3", "str", "object", "list", "ragged", "1-d")),
    "generator": _CALLABLE,
    "group": foreign(None),
    "sync": BOOL,
    "persistent": BOOL,
    "running_stats": Kind(
        (lambda _: ft.FeatureQueue(DIM, 20), lambda _: ft.MovingMoments(DIM, 0.5)),
        ("3", "str", "object", "list", "module"),
        optional=True,
    ),
    "decay": real(0.0, 0.5, 1, bad=("-1", "3", "inf")),
    "batch": _BATCH,
    "imgs": replace(_BATCH, good=_BATCH.good[:1]),
    "real": BOOL,
    "real_moments": replace(OTHER, good=(moments,), slow=("parameter", "module")),  # which torch registers
    "fake_moments": replace(OTHER, good=(moments,), slow=("parameter", "module")),
    "feature": Kind((lambda _: Pooled(),), ("str", "object", "list", "2.5", "3")),
    "reset_real_features": Kind((lambda _: True, lambda _: False), BOOL.bad),
    "normalize": Kind((lambda _: True, lambda _: False), BOOL.bad),
    "antialias": foreign(True),
    "input_img_size": foreign((3, 4, 4)),
    "feature_extractor_weights_path": foreign(None),
    "kwargs": foreign(None),
    "metric": Kind((metric,), ("3", "str", "object", "None", "module")),
    "sample": Kind((lambda _: lambda model, n: generator(n),), ("3", "list", "object", "None")),
    "every": integer(1, 3),
    "every_n_steps": integer(1, 3, optional=True),
    "every_n_epochs": foreign(None),
    "num_features": Kind((lambda _: DIM,), ("str", "2.5", "list")),
    "feature_extractor": Kind((lambda _: Pooled(),), ("3", "str", "object"), optional=True),
    "output_transform": foreign(identity),
    "output": Kind((lambda _: (torch.rand(4, 3, 4, 4), torch.rand(4, 3, 4, 4)),), ()),
    "index": integer(0, 3).without("-1"),
    "input_size": Kind((lambda _: (4, 5),), ("3", "str", "object", "1-d"), optional=True),
    "offset": Kind((lambda _: (0.0, 1.0, 2.0),), ("3", "str", "object", "list")),
    "divisor": Kind((lambda _: (1.0, 1.0, 2.0),), ("3", "str", "object", "list")),
    "takes_uint8": BOOL,
    "reproducible": BOOL,
    "variant": NAME,
    "num_workers": Kind((lambda _: 0,), ("2.5", "str", "-1", "list", "2**63"), optional=True),
    "image_key": NAME,
    "skip_broken": BOOL,
    "suffix": Kind((lambda _: "png", lambda _: ["png", "jpg"]), ("3", "object", "list", "empty str"), optional=True),
    "max_value": real(255.0, bad=("-1", "0", "inf"), optional=True),
    "max_pixels": real(10**6, bad=("-1", "0", "inf"), optional=True),
    "checkpoint": replace(PATH, good=(lambda _: None,), optional=True),
    "use_cache": BOOL,
    "distributed": Kind((lambda _: False,), BOOL.bad),
    "shard": Kind((lambda _: "1/2", lambda _: "2/2"), ("3", "str", "list", "object", "empty str"), optional=True),
    "params": Kind((), ()),
    "metrics": Kind(
        (lambda _: "fid", lambda _: ["fid", "fid"], lambda _: "fd-net,fid"),
        ("3", "str", "object", "list of None", "dict", "empty str"),
    ),
    "estimate": BOOL,
    "column": NAME,
    "num_gpus": Kind((lambda _: None,), ("str", "list", "object", "-1", "0", "inf"), optional=True),
    "concurrency": Kind((lambda _: None,), ("str", "2.5", "object", "-1", "0"), optional=True),
    "extractors": Kind(
        (lambda _: dict.fromkeys(("inception", "inception-spatial", "inception-logits", "net"), network),),
        ("3", "str", "object", "list"),
        optional=True,
    ),
}
BY_NAME["reference_names"], BY_NAME["reference_images"] = BY_NAME["names"], BY_NAME["images"]
_IMAGE_SOURCES = replace(_IMAGES, good=(*_IMAGES.good, rows, stats))
_LIKE_OF_IMAGES = Kind((lambda _: None,), ("str", "3", "list", "object"), optional=True)

#: Kinds of single functions, by "function.argument"; they precede `BY_NAME`.
OVERRIDES: dict[str, Kind] = {
    **{
        f"{name}.{side}": FEATURES
        for name in (
            "kid",
            "kid_subsets",
            "cmmd",
            "precision_recall",
            "density_coverage",
            "manifold_metrics",
            "mifid",
            "mind",
        )
        for side in ("samples", "reference")
    },
    **{f"{name}.samples": FEATURES for name in ("estimate", "influence", "fid_infinity", "vendi")},
    **{
        f"class_distances.{side}": Kind((class_moments,), ("3", "object", "list", "tensor", "bytes", "None"))
        for side in ("samples", "reference")
    },
    **{
        f"ngram_jsd.{side}": Kind((counts, lambda rng: ["abc", *texts(rng)]), ("3", "object", "bytes", "list of None"))
        for side in ("samples", "reference")
    },
    **{
        f"{name}.{side}": _IMAGE_SOURCES
        for name in ("fid_of_images", "estimate_of_images", "evaluate")
        for side in ("samples", "reference")
    },
    **{
        f"{name}.extractor": replace(_EXTRACTOR, optional=True)
        for name in (
            "fid_of_images",
            "estimate_of_images",
            "check_images",
            "moments_of_images",
            "stats_of_images",
            "features_of_images",
            "moments_of_samples",
            "features_of_samples",
            "fid_of_samples",
        )
    },
    **{
        f"{name}.like": _LIKE_OF_IMAGES
        for name in (
            "fid_of_images",
            "estimate_of_images",
            "evaluate",
            "stats_of_images",
            "stats_by_extractor",
            "check_images",
            "load_extractor",
            "load_extractors",
        )
    },
    **{
        f"{name}.ddof": integer(0, 2, optional=True)
        for name in ("fid_of_images", "stats_of_images", "stats_by_extractor")
    },
    "to_array.moments": replace(OTHER, good=(moments,)),
    "from_array.array": Kind((lambda rng: to_array(moments(rng)),), NOT_FEATURES),
    "estimate_of_images.groups": Kind((lambda _: None,), ("3", "str", "object", "2.5", "list"), optional=True),
    "estimate.groups": Kind(
        (lambda _: None, lambda rng: (rng.integers(0, 4, N), None), lambda _: (list("aabbccddeeffgg")[:N], None)),
        ("3", "str", "object", "2.5", "1j", "dict"),
        optional=True,
    ),
    "inception_score.like": choice("torch-fidelity", "torchmetrics", "adm"),
    "inception_score.seed": replace(_SEED, optional=True),
    "mind.like": choice("torch-fidelity", optional=True),
    "mind.seed": integer(0, 2**31),
    "Evaluation.text.metric": choice("fid"),
    "vendi.sigma": Kind((lambda _: None,), ("2.5", "-1", "str", "list", "object"), optional=True),
    "kid_subsets.seed": replace(_SEED, optional=True),
    "manifold_metrics.k": integer(1, 4, optional=True),
    "manifold_metrics.inclusive": replace(BOOL, optional=True),
    "fid.precision": choice("float32", "float64", optional=True),
    "ray.evaluate.precision": choice("float32", "float64", optional=True),
    "ImageOptions.precision": choice("float32", "float64", optional=True),
    "precision_recall.like": choice("adm", "stylegan3", optional=True),
    "mifid.samples": FEATURES,
    "GaussianStats.sigma": Kind((lambda _: np.eye(DIM), lambda _: torch.eye(DIM, requires_grad=True)), _MATRIX),
    "GaussianStats.ddof": integer(0, 2, optional=True),
    "ClassMoments.num_classes": integer(1, 4, optional=True),
    "Moments.from_blocks.blocks": Kind(
        (lambda rng: [moments(rng), moments(rng)],), ("3", "object", "str", "list", "list of None", "dict")
    ),
    "Moments.blocks": integer(1, 3, slow=_NUMBER_JUNK),
    "NgramCounts.level": choice("char", "word"),
    "ngram_jsd.level": choice("char", "word", optional=True),
    "ngram_jsd.n": Kind((lambda _: 2,), integer(1, 2).bad, optional=True),
    "NgramCounts.most_common.k": integer(0, 3, optional=True),
    "InceptionScore.merge.other": replace(OTHER, good=(score,)),
    "Moments.merge.other": replace(OTHER, good=(moments,)),
    "Moments.unmerge.other": replace(OTHER, good=(lambda _: fidfast.Moments(DIM),)),
    "Moments.assign.other": replace(OTHER, good=(moments,)),
    "ClassMoments.merge.other": replace(OTHER, good=(class_moments,)),
    "NgramCounts.merge.other": replace(OTHER, good=(counts,)),
    "Images.fingerprint.progress": Kind((lambda _: False,), ()),
    "moments_of_samples.num_samples": integer(2, 5, slow=_NUMBER_JUNK),
    "features_of_samples.num_samples": integer(1, 5, slow=_NUMBER_JUNK),
    "fid_of_samples.num_samples": integer(2, 5, slow=_NUMBER_JUNK),
    "FrechetDistance.update_samples.num_samples": integer(1, 5, slow=_NUMBER_JUNK),
    "FrechetDistanceHandler.num_samples": integer(2, 5),
    "FrechetDistanceCallback.num_samples": integer(2, 5),
    **{
        f"FrechetDistance.{name}.sync": replace(BOOL, optional=True)
        for name in ("compute", "estimate", "update_samples")
    },
    "FrechetDistance.extractor": replace(_EXTRACTOR, optional=True),
    "ignite.FrechetDistance.extractor": replace(_EXTRACTOR, optional=True),
    "FrechetDistance.update.images": _BATCH,
    "FrechetDistance.forward.images": _BATCH,
    "ignite.FrechetDistance.device": foreign("cpu"),
    "FID.device": foreign("cpu"),
    "ignite.FrechetDistance.update.output": Kind((lambda _: torch.rand(4, 3, 4, 4),), ()),
    "FrechetDistanceHandler.name": TEXT,
    "FrechetDistanceHandler.seed": integer(-3, 3),
    "FrechetDistanceCallback.name": TEXT,
    "FrechetDistanceCallback.seed": integer(-3, 3),
    **{
        f"{name}.seed": integer(-3, 3)
        for name in ("moments_of_samples", "features_of_samples", "fid_of_samples", "FrechetDistance.update_samples")
    },
    "FrechetLoss.forward.features": replace(FEATURES, good=(lambda rng: torch.from_numpy(rows(rng)),)),
    "frechet_loss.features": replace(FEATURES, good=(lambda rng: torch.from_numpy(rows(rng)).requires_grad_(),)),
    "FeatureQueue.push.features": replace(FEATURES, good=(lambda rng: torch.from_numpy(rows(rng)),)),
    "MovingMoments.push.features": replace(FEATURES, good=(lambda rng: torch.from_numpy(rows(rng)),)),
    "FeatureQueue.size": integer(2, 9),
    "FeatureQueue.dtype": Kind((lambda _: torch.float32, lambda _: torch.bfloat16), ("str", "3", "list", "object")),
    "at_layer.model": Kind((lambda _: torch.nn.Sequential(Pooled()),), ("3", "str", "object", "None", "tensor")),
    "as_extractor.name": NAME.without("True"),
    "stats_by_extractor.extractors": Kind(
        (lambda _: [network, ft.as_extractor(Pooled(), name="pooled")],),
        ("3", "str", "object", "list", "list of None", "tensor", "None"),
    ),
    "load_extractors.names": Kind(
        (lambda _: ["efficientnet-lite0"],), ("3", "str", "object", "list", "list of None", "tensor", "None")
    ),
    "save_stats.stats": Kind(
        (lambda rng: {"a": stats(rng), "b": stats(rng)},), ("3", "str", "object", "list", "dict", "None")
    ),
    "load_extractor.name": Kind((lambda _: "efficientnet-lite0",), ("3", "list", "object")),
    "ImageOptions.device": Kind(_DEVICE.good, (), optional=True),  # checked when it is used
    "ImageOptions.group": Kind((lambda _: None,), ("3", "str", "object", "list"), optional=True),
    "ImageOptions.progress": Kind((lambda _: False,), ("3", "object", "list")),
    "ImageOptions.batch_size": integer(1, 4, optional=True),
    "ImageOptions.dtype": choice("float32", "bfloat16", optional=True),
    "prepare.batch_size": integer(1, 4, optional=True),
    "Extractor.name": TEXT,
    "Extractor.resize": choice("pil-bicubic"),
    "Extractor.weights": NAME,
    "Extractor.output": NAME,
    "Extractor.num_features": integer(1, 3, optional=True),
    "FrechetDistance.ddof": integer(0, 1),
    "FrechetDistance.blocks": integer(1, 3, slow=_NUMBER_JUNK),
    **{f"ray.{name}.extractor": replace(_EXTRACTOR, optional=True) for name in ("fid", "estimate", "kid_subsets")},
}
