"""Print the release notes of a version: its section of CHANGELOG.md.

``python .ci/release_notes.py v0.1.0`` fails unless the versions of pyproject.toml, CITATION.cff and the conda recipe
are that of the tag, and the section has a date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: File -> the line with its version.
VERSIONS = {
    "pyproject.toml": r'^version = "(.*)"$',
    "CITATION.cff": r"^version: (.*)$",
    "recipe/recipe.yaml": r'^  version: "(.*)"$',
}


def version_in(text: str, pattern: str, name: str) -> str:
    """The version that a file states."""
    found = re.search(pattern, text, flags=re.MULTILINE)
    if found is None:
        raise SystemExit(f"{name} states no version")
    return found.group(1)


def section(changelog: str, version: str) -> tuple[str, str]:
    """The date in the heading of a version, and the text below it."""
    headings = list(re.finditer(r"^## (\S+) \((.*)\)$", changelog, flags=re.MULTILINE))
    ends = [heading.start() for heading in headings[1:]] + [len(changelog)]
    for heading, end in zip(headings, ends, strict=True):
        if heading.group(1) == version:
            return heading.group(2), changelog[heading.end() : end].strip()
    found = ", ".join(heading.group(1) for heading in headings) or "none"
    raise SystemExit(f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)'; the versions that it has: {found}")


def release_notes(tag: str, root: Path = ROOT) -> str:
    """The notes of the version of a tag such as v0.1.0."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+\S*", tag):
        raise SystemExit(f"the tag must be v and a version, such as v0.1.0, got {tag!r}")
    version = tag.removeprefix("v")
    for name, pattern in VERSIONS.items():
        stated = version_in((root / name).read_text(encoding="utf-8"), pattern, name)
        if stated != version:
            raise SystemExit(f"{name} has version {stated}, but the tag is {tag}: set all versions to that of the tag")
    date, notes = section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise SystemExit(f"CHANGELOG.md dates {version} as {date!r}: write the day of the release as YYYY-MM-DD")
    if not notes:
        raise SystemExit(f"the section of {version} in CHANGELOG.md is empty")
    return notes


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python .ci/release_notes.py TAG")
    print(release_notes(sys.argv[1]))
