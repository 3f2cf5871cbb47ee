"""Extractors of installed packages, by entry points of the group ``fidfast.extractors``."""

import numpy as np
import pytest
import torch

import fidfast.torch as ft
from fidfast._cli.commands import main
from fidfast.torch._extractors.stored import extractor_of_statistics

MODULE = """
import torch


class Colours(torch.nn.Module):
    input_size = 8

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3))

    def forward(self, images):
        return images.mean(dim=(2, 3)) @ self.weight


def extractor():
    from fidfast.torch import Extractor

    return Extractor(Colours(), "other", input_size=(8, 8), num_features=3)


def fails():
    raise RuntimeError("no licence")


def nothing():
    return 3


def exits():
    raise SystemExit(3)
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a package with the given entry points in a folder on the module path."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(package, **points):
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(MODULE)
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{name} = {module}:{factory}" for name, factory in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[fidfast.extractors]", *lines, ""]))
        monkeypatch.syspath_prepend(tmp_path)  # clears the caches of importlib

    return install


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (6, 9, 10, 3), dtype=np.uint8)


def test_an_installed_extractor_works_by_its_name(install, images, tmp_path, capsys):
    install("colour-networks", colours="Colours", **{"exact-colours": "extractor"})
    assert ft.extractor_names()[-2:] == ["colours", "exact-colours"]
    extractor = ft.load_extractor("colours", resize="tf1-bilinear")
    assert extractor.full_name == f"colours-weights-{extractor.weights}/tf1-bilinear-8"
    assert ft.load_extractor("exact-colours").full_name == "exact-colours/pil-bicubic-8"
    assert ft.fid_of_images(images, images, "exact-colours", num_workers=0) == pytest.approx(0, abs=1e-9)
    found, _ = extractor_of_statistics(extractor.full_name, "reference")
    assert found.full_name == extractor.full_name
    np.save(tmp_path / "images.npy", images)
    assert main(["stats", str(tmp_path / "images.npy"), str(tmp_path / "s.npz"), "--extractor", "colours"]) == 0
    assert main(["fid", str(tmp_path / "images.npy"), str(tmp_path / "s.npz")]) == 0
    assert "Fréchet distance" in capsys.readouterr().out


def test_no_package_is_imported_for_its_names(install):
    install("broken-networks", broken="missing", absent="Colours")
    assert {"broken", "absent"} <= set(ft.extractor_names())


@pytest.mark.parametrize(
    ("name", "factory", "kind", "message"),
    [
        ("absent", "missing", ImportError, "could not be loaded: AttributeError: .*; install what the package needs"),
        (
            "fails",
            "fails",
            ImportError,
            "could not be loaded: RuntimeError: no licence; install what the package needs",
        ),
        ("exits", "exits", ImportError, "could not be loaded: SystemExit: 3; install what the package needs"),
        ("nothing", "nothing", TypeError, ": model: an extractor must be callable, got int; its factory must return a"),
        ("inception-2015-12-05", "Colours", ValueError, ": this name is reserved: rename the entry point, or pass the"),
        ("two,names", "Colours", ValueError, ": this name contains '/' or ',': rename the entry point, or pass the"),
    ],
)
def test_broken_packages_are_named(install, name, factory, kind, message):
    """The error names the package, the factory and the next step."""
    install("broken-networks", **{name: factory})
    place = rf"extractor '{name}' of the package broken-networks 1\.2 \(broken_networks:{factory}\)"
    with pytest.raises(kind, match=place + " ?" + message):
        ft.load_extractor(name)


def test_two_packages_with_one_name(install):
    install("networks-a", colours="Colours")
    install("networks-b", colours="Colours")
    with pytest.raises(
        ValueError, match=r"'colours' is in networks-a 1\.2 and in networks-b 1\.2: uninstall one of th"
    ):
        ft.load_extractor("colours")


def test_built_in_names_win(install):
    install("false-networks", **{"efficientnet-lite0": "Colours"})
    with pytest.warns(
        UserWarning, match=r"0' of the package false-networks 1\.2 is not used: .* factory, 'false_networks:Colours'"
    ):
        extractor = ft.load_extractor("efficientnet-lite0")
    assert extractor.num_features == 1280
    assert ft.extractor_names().count("efficientnet-lite0") == 1


def test_an_unknown_name_lists_all(install):
    install("colour-networks", **{"My_Colours.v2": "Colours", "colours": "Colours"})
    for name, hint in (("nothing", "choose"), ("my-colours-v2", r"did you mean 'My_Colours\.v2'\? Choose")):
        with pytest.raises(
            ValueError, match=rf"unknown extractor '{name}'; {hint} one of inception, .*dinov2.*, colours, pac"
        ):
            ft.load_extractor(name)
    assert isinstance(ft.load_extractor("colours").model, torch.nn.Module)
