"""The release notes, and the versions that a release must agree on."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci/release_notes.py"
CHANGELOG = """# Changelog

## 0.2.0 (unreleased)

### Added

- `new`

## 0.1.1 (2026-03-01)

## 0.1.0 (2026-02-01)

### Added

- `old`

### Fixed

- a fault
"""


@pytest.fixture(scope="module")
def script():
    if not SCRIPT.exists():
        pytest.skip("sdists do not contain .ci")
    spec = importlib.util.spec_from_file_location("release_notes", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def repository(tmp_path):
    def write(version, cited=None, changelog=CHANGELOG):
        (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "fidfast"\nversion = "{version}"\n')
        (tmp_path / "CITATION.cff").write_text(f"cff-version: 1.2.0\nversion: {cited or version}\n")
        (tmp_path / "recipe").mkdir()
        (tmp_path / "recipe/recipe.yaml").write_text(f'context:\n  version: "{version}"\n')
        (tmp_path / "CHANGELOG.md").write_text(changelog)
        return tmp_path

    return write


def test_notes_are_the_section_of_the_version(script, repository):
    assert script.release_notes("v0.1.0", repository("0.1.0")) == "### Added\n\n- `old`\n\n### Fixed\n\n- a fault"


@pytest.mark.parametrize(
    ("tag", "version", "message"),
    [
        ("0.1.0", "0.1.0", "must be v and a version, such as v0.1.0, got '0.1.0'"),
        ("v0.1.0", "0.1.1", "pyproject.toml has version 0.1.1, but the tag is v0.1.0"),
        ("v0.2.0", "0.2.0", "dates 0.2.0 as 'unreleased'"),
        ("v0.1.1", "0.1.1", "section of 0.1.1 in CHANGELOG.md is empty"),
        ("v0.3.0", "0.3.0", "versions that it has: 0.2.0, 0.1.1, 0.1.0"),
    ],
)
def test_a_release_that_is_not_ready_is_refused(script, repository, tag, version, message):
    with pytest.raises(SystemExit, match=re.escape(message)):
        script.release_notes(tag, repository(version))


def test_the_citation_must_have_the_version_too(script, repository):
    with pytest.raises(SystemExit, match=r"CITATION\.cff has version 0\.0\.9, but the tag is v0\.1\.0"):
        script.release_notes("v0.1.0", repository("0.1.0", cited="0.0.9"))


def test_all_files_have_one_version_and_the_changelog_has_its_section(script):
    stated = {
        script.version_in((ROOT / name).read_text(encoding="utf-8"), pattern, name)
        for name, pattern in script.VERSIONS.items()
    }
    (version,) = stated
    _, notes = script.section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    assert notes.startswith("### ")


def test_the_checks_of_the_workflow_are_those_of_ci_run():
    """Whoever runs ``.ci/run`` has run what the workflow runs."""
    workflow = ROOT / ".github/workflows/tests.yml"
    if not workflow.exists():
        pytest.skip("sdists do not contain .github")
    assert re.findall(r"^ +- run: (.*)$", workflow.read_text(encoding="utf-8"), flags=re.MULTILINE) == ["bash .ci/run"]
