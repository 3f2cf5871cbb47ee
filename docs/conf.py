"""Sphinx configuration of the documentation: ``sphinx-build -W --keep-going -n docs site``."""

import inspect
import re
import runpy
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.pycode import ModuleAnalyzer

import fidfast
import fidfast.compat
import fidfast.compat.evaluator
import fidfast.compat.pytorch_fid
import fidfast.cuda
import fidfast.jax
import fidfast.ray
import fidfast.torch
import fidfast.torch.ignite
import fidfast.torch.lightning
import fidfast.torch.torchmetrics

HERE = Path(__file__).parent

project = "fidfast"
author = "The fidfast developers"
copyright = "The fidfast developers"
version = release = fidfast.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["templates"]
exclude_patterns = ["figures", "inventories", "templates"]
nitpicky = True
highlight_language = "none"  # blocks without a language are commands and their output
default_role = "autolink"  # single backticks of docstrings: a link if they name an object, else italic as in NumPy

# Pages in Markdown, and notebooks, which are executed at every build. ------------------------------------------------

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_execution_in_temp = True

# Reference, from the docstrings. -------------------------------------------------------------------------------------

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings have types with shapes and choices
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_aliases = {
    **{name: f"fidfast.torch.{name}" for name in fidfast.torch.__all__},
    **{name: f"fidfast.{name}" for name in fidfast.__all__},
    "bool": ":class:`python:bool`",
    "array": "numpy.ndarray",
    "arrays": "numpy.ndarray",
    "array_like": "numpy.typing.ArrayLike",
    "ndarray": "numpy.ndarray",
    "Generator": "numpy.random.Generator",
    "scalar": "torch.Tensor",
    "tensor": "torch.Tensor",
    "tensors": "torch.Tensor",
    "Tensor": "torch.Tensor",
    "DataLoader": "torch.utils.data.DataLoader",
    "Dataset": "torch.utils.data.Dataset",
    "callable": "collections.abc.Callable",
    "iterable": "collections.abc.Iterable",
    "sequence": "collections.abc.Sequence",
    "mapping": "collections.abc.Mapping",
    "Path": "pathlib.Path",
    "path": "os.PathLike",
    "paths": "os.PathLike",
}
#: Words of types that name no object: of shapes, choices and units.
numpydoc_xref_ignore = set(
    """
    as blocks count default dim dtype features float32 height in integers n network num_classes num_samples of optional
    or strings texts three to torch.float32 two uint8 width with GenerativeModelBase onnxruntime.InferenceSession
    """.split()  # noqa: SIM905
)

# Stored inventories of the names that the docstrings use: the build needs no network. With one, the current inventories
# are read instead, and a name that has moved is a warning.
intersphinx_mapping = {
    name: (url, (None, str(HERE / "inventories" / f"{name}.inv")))
    for name, url in {
        "ignite": "https://docs.pytorch.org/ignite/",
        "lightning": "https://lightning.ai/docs/pytorch/stable/",
        "numpy": "https://numpy.org/doc/stable/",
        "python": "https://docs.python.org/3/",
        "ray": "https://docs.ray.io/en/latest/",
        "torch": "https://docs.pytorch.org/docs/stable/",
    }.items()
}
intersphinx_timeout = 10

# HTML. ---------------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = f"fidfast {release}"
html_static_path = ["static"]
html_css_files = ["fidfast.css"]
html_show_sourcelink = False
html_sidebars = {
    page: [] for page in ("changelog", "experiments", "faq", "getting_started", "how_it_works", "migrating")
}
html_theme_options = {
    "logo": {"text": "fidfast"},
    "header_links_before_dropdown": 5,
    "navbar_align": "left",
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "secondary_sidebar_items": ["page-toc"],
}


def _defined_in_private_modules() -> None:
    """Give public classes the name of the module that defines them, where autodoc finds the comments of attributes.

    The package sets ``__module__`` to the public path.
    """
    for module in [module for name, module in sys.modules.items() if name.startswith("fidfast.")]:
        source = Path(getattr(module, "__file__", None) or "")
        text = source.read_text(encoding="utf-8") if source.suffix == ".py" else ""
        for name, value in vars(module).items():
            ours = inspect.isclass(value) and value.__module__.startswith("fidfast")
            if ours and re.search(rf"^class {name}\b", text, re.MULTILINE):
                value.__module__ = module.__name__


_defined_in_private_modules()


def _signature_of_init(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str, returns: str
) -> tuple[str, str] | None:
    """The arguments of ``__init__`` for classes whose ``__new__`` passes all arguments on."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    parameters = list(inspect.signature(value.__init__).parameters.values())[1:]
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    return str(inspect.Signature(plain)), returns


def _comment_of_data(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """The comment above a table that is defined in a private module, in place of the docstring of ``dict``."""
    if what != "data":
        return
    variable = name.rpartition(".")[2]
    for module in [module for key, module in sys.modules.items() if key.startswith("fidfast.")]:
        if vars(module).get(variable) is value:
            found = ModuleAnalyzer.for_module(module.__name__).find_attr_docs().get(("", variable))
            if found:
                lines[:] = found
                return
    raise ExtensionError(f"{name} has no comment that begins with #:")


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", lambda app: runpy.run_path(str(HERE / "figures.py"))["write"]())
    app.connect("autodoc-process-signature", _signature_of_init)
    app.connect("autodoc-process-docstring", _comment_of_data)
