"""Exceptions with another message."""

from __future__ import annotations

__all__ = ["with_message"]


def with_message(error: Exception, message: str) -> Exception:
    """An exception with this message, of the type of `error` or of its first base class that is made from one string.

    ``type(error)(message)`` fails for types with other constructors (UnicodeDecodeError, exceptions of libraries), and
    a KeyError shows its message in quotes. An OSError keeps its `errno`.
    """
    for kind in type(error).__mro__:
        try:
            made = kind(message)
            if str(made) != message:
                continue
        except Exception:  # of a constructor of another library
            continue
        if isinstance(made, OSError) and isinstance(error, OSError):
            made.errno = error.errno
        assert isinstance(made, Exception)
        return made
    raise AssertionError("Exception is made from one string")
