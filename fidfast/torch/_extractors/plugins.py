"""Extractors of installed packages: entry points of the group ``fidfast.extractors``.

A package names a factory, a callable without arguments that returns a network, callable or `Extractor`, in its
``pyproject.toml``::

    [project.entry-points."fidfast.extractors"]
    my-network = "my_package.networks:my_network"
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points

from fidfast._results import is_inception
from fidfast.torch._extractors.adapters import as_extractor
from fidfast.torch._extractors.extractor import Extractor

__all__ = ["GROUP", "load_plugin", "package_of_plugin", "plugins"]

#: Group of the entry points.
GROUP = "fidfast.extractors"


def plugins() -> dict[str, list[EntryPoint]]:
    """The entry points of all installed packages, by name. Imports none of them."""
    found: dict[str, list[EntryPoint]] = defaultdict(list)
    for point in entry_points(group=GROUP):
        if point not in found[point.name]:  # the same package twice in the module path
            found[point.name].append(point)
    return {name: sorted(points, key=package_of_plugin) for name, points in sorted(found.items())}


def package_of_plugin(point: EntryPoint) -> str:
    """Name and version of the package of an entry point."""
    return "an unknown package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def load_plugin(name: str, points: list[EntryPoint]) -> Extractor:
    """The extractor of an entry point; its name is that of the entry point.

    Raises
    ------
    ImportError
        If the factory cannot be imported or fails; the message names the package.
    ValueError
        If several packages have an entry point of this name, or the name cannot be used.
    TypeError, ValueError
        If the factory does not return an extractor, as in `as_extractor`.
    """
    packages = [package_of_plugin(point) for point in points]
    factory = points[0].value
    extractor = f"extractor {name!r} of the package {packages[0]} ({factory})"
    if "/" in name or "," in name or is_inception(name):  # "/" separates the parts of stored names
        reserved = "contains '/' or ','" if {"/", ","} & set(name) else "is reserved"
        raise ValueError(f"{extractor}: this name {reserved}: rename the entry point, or pass the factory, {factory!r}")
    if len(points) > 1:
        raise ValueError(
            f"extractor {name!r} is in {' and in '.join(packages)}: uninstall one of them, or name a factory, "
            f"for example {factory}"
        )
    try:
        model = points[0].load()()
    except (Exception, SystemExit) as error:  # of the package's code
        reason = f"{type(error).__name__}: {error}"
        raise ImportError(
            f"{extractor} could not be loaded: {reason}; install what the package needs or another version of it"
        ) from error
    try:
        return replace(as_extractor(model), name=name)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{extractor}: {error}; its factory must return a network, another callable or a fidfast.torch.Extractor"
        ) from error
