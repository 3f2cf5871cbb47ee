"""The code blocks of the pages, and what the comments before them say.

``<!-- not run: reason -->`` before a block leaves it out; the arguments of its commands are still parsed.
``<!-- output of: command -->`` before a block without a language: the block is what the command prints.
A block without a language that follows a block of Python or commands at once is what that prints.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

#: First words of the commands in a block of commands.
PROGRAMS = ("fidfast", "pip", "python", "pytest", "torchrun", "fidelity", "#!/bin/bash", "cmake", "bash")

#: In place of a star in quotes, which a shell does not expand.
QUOTED_STAR = "\0"

_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (?P<key>not run|output of): (?P<value>.*?) -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block; `kind` is "python", "commands", "output" (of the block before, or of `command`) or "other"."""

    page: Path
    line: int
    kind: str
    text: str
    #: Why it is not run, or None.
    reason: str | None = None
    #: What prints this output, if it is not the block before.
    command: str | None = None

    def __str__(self):
        return f"{self.page.name}:{self.line}"

    @property
    def commands(self):
        """Words of each command of the block."""
        quoted = re.sub(r'"[^"\n]*"', lambda found: found[0].replace("*", QUOTED_STAR), self.text)
        for line in quoted.replace("\\\n", " ").splitlines():
            words = []
            for word in shlex.split(line, comments=True):
                if word in ("&&", ";") or word.endswith(";"):
                    yield [*words, word.rstrip(";")] if word not in ("&&", ";") else words
                    words = []
                else:
                    words.append(word)
            if words:
                yield words


def blocks(page):
    """The blocks of a page in their order, without directives of Sphinx."""
    text, end, before = page.read_text(encoding="utf-8"), 0, None
    for found in _FENCE.finditer(text):
        language, content = found["language"].strip(), found["text"]
        if language.startswith("{"):
            before, end = None, found.end()
            continue
        comment = _COMMENT.search(text[end : found.start()])
        notes = {comment["key"]: " ".join(comment["value"].split())} if comment else {}
        if language == "python":
            kind = "python"
        elif language:
            kind = "other"
        elif content.split(maxsplit=1)[0].startswith(PROGRAMS) and "output of" not in notes and content[0] != " ":
            kind = "commands"
        else:
            follows = before in ("python", "commands") and not text[end : found.start()].strip()
            kind = "output" if follows or "output of" in notes else "other"
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, kind, content, notes.get("not run"), notes.get("output of"))
        before, end = kind, found.end()
