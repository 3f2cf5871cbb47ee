"""Text that any terminal, log or pipe can show."""

from __future__ import annotations

__all__ = ["encodable", "printable"]

#: Replacements for characters of this package's own texts that an encoding may lack.
_PLAIN = {
    "é": "e",
    "±": "+-",
    "·": "*",
    "−": "-",
    "–": "-",
    "…": "...",
    "×": "x",
    "≤": "<=",
    "≥": ">=",
    "²": "^2",
    "³": "^3",
}


def printable(text: str) -> str:
    r"""Escape line breaks, control characters and bytes that are not UTF-8, which file names may contain.

    Returns
    -------
    str
        One line; ``\udcff`` stands for a byte 0xff that is not UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def encodable(text: str, encoding: str | None) -> str:
    """Replace or escape the characters that an encoding cannot represent; None is UTF-8."""
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        plain = "".join(c if _fits(c, encoding) else _PLAIN.get(c, c) for c in text)
        return plain.encode(encoding, "backslashreplace").decode(encoding)


def _fits(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
