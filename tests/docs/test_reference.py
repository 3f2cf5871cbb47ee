"""Every public name has a page of the API reference, and no page is of another name."""

import importlib
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

#: The public modules, and the names of those without ``__all__`` that users may import.
MODULES = {
    "fidfast": None,
    "fidfast.compat": None,
    "fidfast.compat.evaluator": ("main",),
    "fidfast.compat.pytorch_fid": ("calculate_fid_given_paths", "main", "save_fid_stats"),
    "fidfast.cuda": None,
    "fidfast.jax": None,
    "fidfast.ray": None,
    "fidfast.torch": None,
    "fidfast.torch.ignite": None,
    "fidfast.torch.lightning": None,
    "fidfast.torch.torchmetrics": None,
}
#: Names that are documented on the page of the index, or with the function of the package that they are.
WITHOUT_PAGE = {"fidfast.__version__"}


def listed():
    """Full names in the tables of docs/reference, in the order of the pages."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        for module, names in re.findall(
            r"\.\. currentmodule:: (\S+)\n\n\.\. autosummary::\n(?:   :.*\n)+\n((?:   \w+\n)+)", page.read_text("utf-8")
        ):
            yield from (f"{module}.{name}" for name in names.split())


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_page(module):
    if module == "fidfast.ray":
        pytest.importorskip("ray")
    names = MODULES[module] or importlib.import_module(module).__all__
    pages = {name for name in listed() if name.rpartition(".")[0] == module}
    assert pages == {f"{module}.{name}" for name in names} - WITHOUT_PAGE


def test_no_name_has_two_pages():
    names = list(listed())
    assert len(names) == len(set(names)) > 100


def test_every_page_is_in_a_table_of_contents():
    entries = {"index"}
    for page in DOCS.rglob("*.md"):
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            entries |= {(page.parent / name).relative_to(DOCS).as_posix() for name in names}
    built = {path.relative_to(DOCS).with_suffix("").as_posix() for path in (DOCS / "figures").glob("*.md")}
    assert entries == {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")} - built
