"""Every public callable, and the kind of each of its arguments.

Functions, constructors, methods and setters are found in the modules; an argument without a kind, or a class without an
instance, is an error, so that new ones are not forgotten.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fuzz_compat import COMPAT
from fuzz_kinds import BY_NAME, OVERRIDES, STATE
from fuzz_objects import INSTANCES
from fuzz_values import PATH, Kind, class_moments, counts, moments, score, stats

import fidfast.torch as ft
from fidfast._results import Result

MODULES = (
    "fidfast",
    "fidfast.cuda",
    "fidfast.jax",
    "fidfast.torch",
    "fidfast.torch.torchmetrics",
    "fidfast.torch.lightning",
    "fidfast.torch.ignite",
    "fidfast.compat",
    "fidfast.compat.pytorch_fid",
    "fidfast.ray",
)

#: Modules some of whose names are also names of `fidfast` or `fidfast.torch`, and the prefix of their targets.
PREFIXES = {"fidfast.torch.ignite": "ignite.", "fidfast.ray": "ray."}

#: Not called, with the reason.
EXCLUDED = {
    "demo": "a minute",
    "all_reduce": "needs several processes; tests/torch and tests/jax have them",
    "FrechetDistanceCallback.measure": "called by Lightning, as are the next",
    "FrechetDistanceCallback.setup": "",
    "FrechetDistanceCallback.on_train_start": "",
    "FrechetDistanceCallback.on_train_batch_end": "",
    "FrechetDistanceCallback.on_train_epoch_end": "",
    "FrechetDistanceCallback.load_state_dict": "",
    "FrechetDistanceHandler.attach": "called with an engine of ignite",
    "FeatureQueue.combined_with": "for FrechetLoss, as are the next",
    "FeatureQueue.set_packed_state": "",
    "MovingMoments.combined_with": "",
    "MovingMoments.set_packed_state": "",
    "FrechetDistance.set_packed_state": "for load_state_dict, whose tensors have a checksum",
    "FrechetInceptionDistance.plot": "of torchmetrics",
    "FrechetInceptionDistance.set_dtype": "of torchmetrics",
    "Extractor.prepared": "as prepare",
    "calculate_metrics": "takes keywords only; tests/compat has each of them",
    "compute_kid": "needs the weights of Inception, as does the next",
    "save_fid_stats": "",
    "main": "reads the command line",
    "ray.moments": "needs a cluster; tests/ray has its arguments",
    "Images.path_of": "as an index of a list",
    "Images.part": "takes a range, from ImageSource.part",
    "Images.fingerprint": "only the truth of its argument matters",
}


#: Arguments that are always given although they have defaults, which need downloads or exclude each other.
ALWAYS = {
    "fid_of_images": ("extractor",),
    "estimate_of_images": ("extractor",),
    "check_images": ("extractor",),
    "evaluate": ("metrics", "extractors"),
    "FrechetInceptionDistance": ("feature", "input_img_size"),
    "kid_subsets": ("subsets", "subset_size"),
    "ray.kid_subsets": ("subsets", "subset_size"),
    "ray.evaluate": ("metrics", "extractors"),
    "fid_infinity": ("num_points",),
    "fid_of_samples": ("num_samples",),
    "FID": ("num_features", "feature_extractor"),
    "FrechetDistanceCallback": ("every_n_steps",),
    "compute_fid": ("fdir1", "fdir2", "custom_feat_extractor"),
}


@dataclass(frozen=True)
class Target:
    """A public callable."""

    #: "function", "Class", "Class.method" or "Class.property =".
    name: str
    #: From a random generator and a folder to the callable.
    make: Callable
    arguments: dict[str, Kind]
    #: Arguments without a default.
    required: frozenset[str]


def _kind(owner: str, name: str) -> Kind:
    for key in (f"{owner}.{name}", f"{owner.removeprefix('ignite.').removeprefix('ray.')}.{name}"):
        if key in OVERRIDES:
            return OVERRIDES[key]
    if name in COMPAT:
        return COMPAT[name]
    if name not in BY_NAME:
        raise KeyError(f"{owner} has the argument {name}, which has no kind: add it to BY_NAME or OVERRIDES")
    return BY_NAME[name]


def _target(name: str, function: Callable, make: Callable) -> Target:
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    parameters = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    required = frozenset((*(p.name for p in parameters if p.default is p.empty), *ALWAYS.get(name, ())))
    return Target(name, make, {p.name: _kind(name, p.name) for p in parameters}, required)


def _members(found: type) -> Iterator[str]:
    for key in dir(found):
        owner = next(base for base in found.__mro__ if key in vars(base))
        if not key.startswith("_") and owner.__module__.startswith("fidfast"):
            yield key


def _targets_of_class(name: str, found: type) -> Iterator[Target]:
    returned = issubclass(found, (Result, tuple, Exception)) or inspect.isabstract(found)
    if not returned:
        yield _target(name, found, lambda rng, found=found: found)
    for key in _members(found):
        member, full = inspect.getattr_static(found, key), f"{name}.{key}"
        if full.removeprefix("ignite.") in EXCLUDED or full in EXCLUDED:
            continue
        if isinstance(member, property):
            make = INSTANCES[name]
            yield Target(f"{full}", lambda rng, make=make, key=key: lambda: getattr(make(rng), key), {}, frozenset())
            if member.fset is not None and key in BY_NAME:
                yield Target(
                    f"{full} =",
                    lambda rng, make=make, key=key: lambda **given: setattr(make(rng), key, given[key]),
                    {key: BY_NAME[key]},
                    frozenset([key]),
                )
        elif isinstance(member, (classmethod, staticmethod)):
            yield _target(full, getattr(found, key), lambda rng, found=found, key=key: getattr(found, key))
        elif inspect.isfunction(member):
            make = INSTANCES[name]
            yield _target(full, member, lambda rng, make=make, key=key: getattr(make(rng), key))


def targets() -> dict[str, Target]:
    """All public callables by name."""
    found = {}
    for path in MODULES:
        if path == "fidfast.ray" and importlib.util.find_spec("ray") is None:
            continue
        module = importlib.import_module(path)
        for key in module.__all__:
            thing, name = getattr(module, key), key
            if path in PREFIXES and (key in ft.__all__ or path == "fidfast.ray"):
                name = f"{PREFIXES[path]}{key}"
            if name in EXCLUDED or not callable(thing):
                continue
            made = (
                _targets_of_class(name, thing)
                if inspect.isclass(thing)
                else [_target(name, thing, lambda rng, thing=thing: thing)]
            )
            found.update((target.name, target) for target in made)
    return found


def paths(folder: Path) -> dict[str, Kind]:
    """Kinds of the arguments that need files, which are written to the folder: by "function.argument"."""
    rng = np.random.default_rng(0)
    made = {
        "Moments": moments(rng),
        "ClassMoments": class_moments(rng),
        "NgramCounts": counts(rng),
        "InceptionScore": score(rng),
        "GaussianStats": stats(rng),
    }
    found = {}
    for name, thing in made.items():
        file = folder / f"{name}.npz"
        thing.save(file)
        found[f"{name}.load.path"] = replace(PATH, good=(lambda _, file=file: file, lambda _, file=file: str(file)))
        found[f"{name}.save.path"] = replace(PATH, good=(lambda _, name=name: folder / f"saved-{name}.npz",))
        if hasattr(thing, "state"):
            state = thing.state()
            found[f"{name}.from_state.state"] = replace(STATE, good=(lambda _, state=state: dict(state),))
    both = [folder / "GaussianStats.npz", folder / "Moments.npz"]
    found["calculate_fid_given_paths.paths"] = replace(COMPAT["paths"], good=(lambda _: both,))
    found["merge_parts.paths"] = replace(COMPAT["paths"], good=(lambda _: both[1:], lambda _: both[1])).without("str")
    for name in ("SourceMoments", "ImageMoments"):
        found[f"{name}.save.path"] = replace(PATH, good=(lambda _, name=name: folder / f"saved-{name}.npz",))
    found["save_stats.path"] = replace(PATH, good=(lambda _: folder / "saved-several.npz",))
    found["file_info.path"] = replace(PATH, good=(lambda _: folder / "Moments.npz",))
    found["Report.write_html.path"] = replace(PATH, good=(lambda _: folder / "report.html",))
    found["DemoResult.save_plots.path"] = replace(PATH, good=(lambda _: folder,))
    return found
