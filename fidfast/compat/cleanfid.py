"""The functions of clean-fid: ``from fidfast.compat import cleanfid as fid``, then ``fid.compute_fid(...)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fidfast._arguments import optional, require_bool, require_callable, require_choice, require_integer, require_text
from fidfast._inputs import Input, open_input
from fidfast._metrics.kernel import kid_subsets
from fidfast._sources import is_image_source
from fidfast.compat._cleanfid_inputs import (
    GeneratedImages,
    ImageFunctions,
    cleanfid_images,
    find_statistics,
    statistics_file,
)

__all__ = ["compute_fid", "compute_kid"]

#: The tool whose resize and pixel range a mode uses.
_LIKE = {"clean": "clean-fid", "legacy_tensorflow": "torch-fidelity", "legacy_pytorch": "pytorch-fid"}

_INCEPTION = "inception_v3"


def compute_fid(
    fdir1: Any = None,
    fdir2: Any = None,
    gen: Callable[..., Any] | None = None,
    mode: str = "clean",
    model_name: str = "inception_v3",
    num_workers: int = 12,
    batch_size: int = 32,
    device: Any = None,
    dataset_name: str = "FFHQ",
    dataset_res: str | int = 1024,
    dataset_split: str = "train",
    num_gen: int = 50_000,
    z_dim: int = 512,
    custom_feat_extractor: Callable[..., Any] | None = None,
    verbose: bool = True,
    custom_image_tranform: Callable[..., Any] | None = None,
    custom_fn_resize: Callable[..., Any] | None = None,
    use_dataparallel: bool = True,
) -> float:
    """FID with the arguments of ``cleanfid.fid.compute_fid``.

    Parameters
    ----------
    fdir1, fdir2 : path, optional
        Folders or ``.zip`` archives of images, also ``.npy`` files of (height, width, 3) arrays in folders; or any
        other source that `fidfast.torch.moments_of_images` accepts. `fdir2` may be a file of statistics.
    gen : callable, optional
        A generator, instead of `fdir1`: from (n, z_dim) normal random numbers of torch's global generator to
        (n, 3, height, width) images from 0 to 255.
    mode : {"clean", "legacy_tensorflow", "legacy_pytorch"}, default "clean"
        The resize: `LIKE` of "clean-fid", "torch-fidelity" or "pytorch-fid".
    model_name : {"inception_v3"}
    num_workers, batch_size : int
        Worker processes that decode and resize, and images per batch.
    device : torch.device or str, optional
        By default CUDA if available, unlike clean-fid, which needs CUDA by default.
    dataset_name, dataset_res, dataset_split
        Statistics of the reference if `fdir2` is None: clean-fid's file of this name, from its folder ``stats`` (where
        ``make_custom_stats`` writes) or from torch's cache, or downloaded from clean-fid's site to that cache.
    num_gen, z_dim : int
        Number of images of `gen`, and of its random numbers for one image.
    custom_feat_extractor : callable, optional
        From resized images (n, 3, 299, 299), float32 from 0 to 255, to features (n, dim).
    verbose : bool, default True
        Whether to show progress on standard error.
    custom_image_tranform : callable, optional
        From a (height, width, 3) uint8 array to another image, before the resize.
    custom_fn_resize : callable, optional
        Replaces the resize: from a (height, width, 3) array from 0 to 255 to one of the input size.
    use_dataparallel : bool
        Not used: the network runs on one device.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or the combination of `fdir1`, `fdir2` and `gen`.
    FileNotFoundError
        If a path does not exist, or weights or statistics are neither found nor can be downloaded.
    ImportError
        If torch or torch-fidelity is not installed.

    Warns
    -----
    UserWarning
        If the weights are not those of 2015-12-05.

    Notes
    -----
    Parmar, Zhang & Zhu (2022). The result equals that of clean-fid up to the rounding of its network and its ``sqrtm``.
    """
    given = dict(locals())
    sides, extractor, options = _opened(given, kid=False)
    from fidfast.torch._images.distances import distance_of_images

    return distance_of_images(sides, extractor, None, None, options)


def compute_kid(
    fdir1: Any = None,
    fdir2: Any = None,
    gen: Callable[..., Any] | None = None,
    mode: str = "clean",
    num_workers: int = 12,
    batch_size: int = 32,
    device: Any = None,
    dataset_name: str = "FFHQ",
    dataset_res: str | int = 1024,
    dataset_split: str = "train",
    num_gen: int = 50_000,
    z_dim: int = 512,
    verbose: bool = True,
    use_dataparallel: bool = True,
) -> float:
    """KID with the arguments of ``cleanfid.fid.compute_kid``: the mean over 100 subsets of at most 1,000 images.

    Parameters
    ----------
    fdir1, fdir2, gen, mode, num_workers, batch_size, device, dataset_name, dataset_res, dataset_split, num_gen, z_dim
        As in `compute_fid`; a file as `fdir2` must hold features.
    verbose, use_dataparallel
        As in `compute_fid`.

    Returns
    -------
    float
        The subsets are drawn from NumPy's global generator, as in clean-fid: ``numpy.random.seed`` makes it repeatable.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, ImportError
        As `compute_fid`.

    Notes
    -----
    Bińkowski et al. (2018). `fidfast.kid` is the better estimate: over all pairs, not random, with an error bar.
    """
    given = dict(locals())
    sides, extractor, options = _opened(given, kid=True)
    from fidfast.torch._images.checks import check_images
    from fidfast.torch._images.extraction import features_of_source
    from fidfast.torch._images.options import with_label

    checked = check_images(sides, extractor, options=options)
    rows = {
        name: side
        if isinstance(side, Input)
        else features_of_source(side, checked.extractor or extractor, with_label(checked.options, name))
        for name, side in checked.sources.items()
    }
    # clean-fid's order of the two sets, which the random numbers depend on.
    first, second = rows.values() if "fdir1" in rows and "fdir2" in rows else reversed(rows.values())
    return kid_subsets(first, second, like="clean-fid", seed=None).mean


def _opened(given: dict[str, Any], *, kid: bool) -> tuple[dict[str, Any], Any, Any]:
    """The two sides by the names of their arguments, the extractor, and the options of the extraction."""
    mode, verbose = require_choice("mode", given["mode"], tuple(_LIKE)), require_bool("verbose", given["verbose"])
    require_bool("use_dataparallel", given["use_dataparallel"])
    num_gen, z_dim = require_integer("num_gen", given["num_gen"], 2), require_integer("z_dim", given["z_dim"], 1)
    file = statistics_file(given["dataset_name"], given["dataset_res"], given["dataset_split"], mode, kid=kid)
    for name in ("gen", "custom_feat_extractor", "custom_image_tranform", "custom_fn_resize"):
        optional(require_callable, name, given.setdefault(name, None))
    model_name, network = (
        require_text("model_name", given.get("model_name", _INCEPTION)),
        given["custom_feat_extractor"],
    )
    fdir1, gen = given["fdir1"], given["gen"]
    if (fdir1 is None) == (gen is None):
        raise ValueError(f"pass either fdir1 or gen, got {'neither' if gen is None else 'both'}")
    if network is None and model_name != _INCEPTION:
        raise ValueError(f"model_name must be {_INCEPTION!r}, got {model_name!r}: pass others as custom_feat_extractor")
    try:
        from fidfast.torch import LIKE, Extractor, ImageOptions, load_extractor
        from fidfast.torch._images.options import resolve_device
    except ImportError as error:
        raise ImportError(f"clean-fid's functions need torch: pip install 'fidfast[images]' ({error})") from error
    options = ImageOptions(
        batch_size=require_integer("batch_size", given["batch_size"], 1),
        num_workers=given["num_workers"],
        device=given["device"],
        progress=verbose,
    )
    changes = (given["custom_image_tranform"], given["custom_fn_resize"])
    functions = ImageFunctions(tuple(function for function in changes if function is not None))
    sides: dict[str, Any] = {"fdir1": fdir1}
    if gen is not None:
        device = resolve_device(options.device)
        sides = {"gen": GeneratedImages(gen, num_gen, z_dim, given["batch_size"], device)}
    if given["fdir2"] is None:
        statistics = find_statistics(file, progress=verbose)
        sides["dataset_name"] = open_input(statistics, "dataset_name", rows=kid)
    else:
        sides["fdir2"] = given["fdir2"]
    for name, side in sides.items():
        if name == "gen" or (name != "dataset_name" and is_image_source(side)):
            sides[name] = cleanfid_images(side, functions, options, name)
    if network is None:
        return sides, load_extractor("inception", like=_LIKE[mode]), options
    is_resized = mode == "legacy_tensorflow" or given["custom_fn_resize"] is not None
    extractor = Extractor(
        network,
        "custom_feat_extractor",
        input_size=None if is_resized else (299, 299),
        resize=LIKE[_LIKE[mode]].resize,
        divisor=(1.0, 1.0, 1.0),
    )
    return sides, extractor, options
