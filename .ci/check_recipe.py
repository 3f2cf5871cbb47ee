"""Render the conda recipe for every platform, Python and CUDA, and compare it with pyproject.toml."""

from __future__ import annotations

from pathlib import Path

import tomllib
from rattler_build import PlatformConfig, RenderConfig, Stage0Recipe, VariantConfig

ROOT = Path(__file__).parents[1]
#: What conda-forge sets in the same way for all variants.
FIXED = {"c_stdlib": ["sysroot"], "c_stdlib_version": ["2.28"], "cuda_compiler": ["cuda-nvcc"]}
PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]
#: Platform -> versions of the CUDA compiler, as conda-forge names them.
PLATFORMS = {
    "linux-64": ["None", "13.0"],
    "linux-aarch64": ["None", "13.0"],
    "osx-64": ["None"],
    "osx-arm64": ["None"],
}


def main() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    recipe = Stage0Recipe.from_file(str(ROOT / "recipe/recipe.yaml"))
    for platform, compilers in PLATFORMS.items():
        config = RenderConfig(platform=PlatformConfig(target_platform=platform, build_platform=platform))
        for compiler in compilers:
            variants = VariantConfig({**FIXED, "python": PYTHONS, "cuda_compiler_version": [compiler]})
            rendered = [variant.recipe for variant in recipe.render(variants, config)]
            assert len(rendered) == len(PYTHONS), (platform, compiler, len(rendered))
            for each in rendered:
                check(each.to_dict(), project, compiler != "None")
    print(f"the recipe fits pyproject.toml on {', '.join(PLATFORMS)}")


def check(recipe: dict, project: dict, cuda: bool) -> None:
    """Compare one variant with pyproject.toml."""
    assert recipe["package"] == {"name": project["name"], "version": project["version"]}, recipe["package"]
    required = [line.replace(" ", "") for line in recipe["requirements"]["run"]]
    libraries = ["libcublas", "libcusolver"] if cuda else []
    assert required == ["python", *project["dependencies"], *libraries], required
    assert any("cuda" in line for line in recipe["requirements"]["build"]) == cuda
    assert recipe["build"]["script"]["env"]["SKBUILD_CMAKE_DEFINE"].startswith(
        f"FIDFAST_CUDA={'ON' if cuda else 'OFF'}"
    )
    commands = [f"{name} = {function}" for name, function in project["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == commands, commands
    assert recipe["about"]["license"] == project["license"]


if __name__ == "__main__":
    main()
