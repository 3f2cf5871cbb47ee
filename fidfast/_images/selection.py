"""Which files of a folder or archive are its images, and why the others are not."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from fidfast._arguments import require_sequence
from fidfast._warnings import warn_user

__all__ = [
    "ALL",
    "EXTENSIONS",
    "Ignored",
    "as_suffixes",
    "is_hidden",
    "is_picture",
    "select",
    "suffix_of",
    "unread_pictures",
]

#: File name extensions of images, those of pytorch-fid and clean-fid.
EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

#: Extensions of images that are read only if they are chosen as suffix, since the other tools do not read them.
_OTHER_PICTURES = frozenset(
    {".apng", ".avif", ".avifs", ".dib", ".gif", ".heic", ".heif", ".icb", ".ico", ".j2k", ".jfif", ".jp2", ".jpe"}
    | {".jxl", ".pbm", ".pcx", ".pfm", ".pnm", ".tga"}
)

_PICTURES = EXTENSIONS | _OTHER_PICTURES

#: Names of folders in which systems keep thumbnails and metadata; as are names that begin with a dot.
_HIDDEN_FOLDERS = frozenset({"__MACOSX", "@eaDir"})

#: Suffix that chooses every file with one of `EXTENSIONS`.
ALL = "*"

#: The reason for arrays of an ``.npz`` that are not images, in the singular.
_ARRAY = "other array"
#: Number of reasons with their own line; further extensions are counted together.
_MAX_REASONS = 20


class Ignored:
    """Counts files that are not read, by reason, with the first name as an example."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str, example: str, number: int = 1) -> None:
        """Count files that are not read for this reason."""
        if reason not in self._counts and len(self._counts) >= _MAX_REASONS:
            reason = "other extensions"
        self._counts[reason] += number
        self._examples.setdefault(reason, example)

    def to_dict(self) -> dict[str, int]:
        """Number of files by reason; each reason ends with an example in parentheses."""
        return {
            f"{reason}{'s' if reason == _ARRAY and count > 1 else ''} ({self._examples[reason]})": count
            for reason, count in self._counts.items()
        }


def as_suffixes(suffix: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """The chosen suffixes in lower case without the leading dot; None for the default choice.

    Raises
    ------
    TypeError, ValueError
        If it is not a string or strings, or a suffix is empty.
    """
    if suffix is None:
        return None
    parts = suffix.split(",") if isinstance(suffix, str) else require_sequence("suffix", suffix)
    if not all(isinstance(part, str) for part in parts):
        raise TypeError(f"suffix must be a string or strings, got {suffix!r}")
    suffixes = tuple(part.strip().lower().removeprefix(".") for part in parts)
    if not suffixes or not all(suffixes):
        raise ValueError(f"suffix must not be empty, got {suffix!r}")
    return suffixes


def is_hidden(name: str) -> bool:
    """Whether a file or one of its folders is hidden, or holds thumbnails or metadata of the system."""
    return any(
        part.startswith(".") or part in _HIDDEN_FOLDERS for part in name.split("/") if part not in ("", ".", "..")
    )


def is_picture(name: str) -> bool:
    """Whether a file has the extension of any image format, read or not."""
    return _extension(name) in _PICTURES


def unread_pictures(ignored: Mapping[str, int]) -> dict[str, int]:
    """The reasons in `Ignored.to_dict` for which a user may expect images to be counted."""
    return {reason: number for reason, number in ignored.items() if _is_unexpected(reason.partition(" (")[0])}


def _is_unexpected(reason: str) -> bool:
    if reason.startswith("."):
        return is_picture(f"x{reason}")
    return reason not in ("hidden", "no extension", "other extensions", _ARRAY, f"{_ARRAY}s") and "suffix" not in reason


def select(
    names: Sequence[str], suffixes: tuple[str, ...] | None, ignored: Ignored, origin: object, *, archive: bool
) -> list[int]:
    """Indices of the names that are images; counts the others in `ignored`.

    The suffix of a file is what follows the first dot of its base name, as in a WebDataset, where the files of a sample
    differ in their suffixes only. If samples have several images and no suffix is chosen, the images of a ``.tar`` are
    those whose suffix is one extension (``0001.jpg``, not ``0001.mask.png``); if this does not give one image per
    sample, it is an error. A folder is read as other tools do, all of its images, with a warning.

    Parameters
    ----------
    names : sequence of str
        Relative, with slashes.
    suffixes : tuple of str, optional
        From `as_suffixes`.
    ignored : Ignored
    origin : object
        Of the files, for messages.
    archive : bool
        Whether this is a ``.tar``, which may be a WebDataset.

    Raises
    ------
    ValueError
        If samples have several images, or no file has a chosen suffix.
    """
    visible = []
    for i, name in enumerate(names):
        if not is_hidden(name):
            visible.append(i)
        elif is_picture(name):
            ignored.add("hidden", name)
    if suffixes is None or ALL in suffixes:
        images = [i for i in visible if _extension(names[i]) in EXTENSIONS]
    else:
        images = _with_suffix(names, visible, suffixes, origin)
    images_set = set(images)
    for i in visible:
        if i not in images_set:
            ignored.add(_unread_kind(names[i], suffixes), names[i])
    if suffixes is None and (several := _several_images(names, images)):
        if archive:
            return _primary_images(names, images, several, ignored, origin)
        found = ", ".join(f".{suffix} ({number})" for suffix, number in several.most_common(8))
        warn_user(
            f"{origin} holds several images of the same sample, by suffix: {found}; all are counted. "
            "Pass suffix (--suffix) to choose"
        )
    return images


def _unread_kind(name: str, suffixes: tuple[str, ...] | None) -> str:
    if suffixes is not None and ALL not in suffixes and is_picture(name):
        return f"other suffix .{suffix_of(name)}"
    return _extension(name) or "no extension"


def _with_suffix(names: Sequence[str], indices: list[int], suffixes: tuple[str, ...], origin: object) -> list[int]:
    """The files with one of the suffixes; if there are none, the files whose names end with one."""
    found = Counter(suffix_of(names[i]) for i in indices)
    chosen = [i for i in indices if suffix_of(names[i]) in suffixes]
    if not chosen:
        chosen = [i for i in indices if names[i].lower().endswith(tuple(f".{suffix}" for suffix in suffixes))]
    if not chosen:
        present = ", ".join(f".{suffix} ({number})" for suffix, number in found.most_common(8)) or "none"
        wanted = " or ".join(f".{suffix}" for suffix in suffixes)
        raise ValueError(f"{origin} has no file with the suffix {wanted}; its suffixes are {present}")
    return chosen


def _several_images(names: Sequence[str], images: list[int]) -> Counter[str]:
    """Suffixes of the images, if some samples have several images; else empty.

    A number before the extension counts as part of the sample's name if there are more suffixes than samples:
    ``cat.0.jpg``, ``cat.1.jpg``, ``dog.0.jpg``, ... are not views of a cat and of a dog.
    """
    suffixes = Counter(suffix_of(names[i]) for i in images)
    numbered = {suffix for suffix in suffixes if suffix.split(".")[-2:-1] and suffix.split(".")[-2].isdigit()}
    if len(numbered) > len({_key(names[i]) for i in images if suffix_of(names[i]) in numbered}):
        images = [i for i in images if suffix_of(names[i]) not in numbered]
    if len({_key(names[i]) for i in images}) == len(images):
        return Counter()
    return suffixes


def _primary_images(
    names: Sequence[str], images: list[int], suffixes: Counter[str], ignored: Ignored, origin: object
) -> list[int]:
    """One image of each sample: that whose suffix is one extension."""
    samples: dict[str, list[int]] = defaultdict(list)
    for i in images:
        samples[_key(names[i])].append(i)
    primary = {key: [i for i in group if "." not in suffix_of(names[i])] for key, group in samples.items()}
    others = {suffix_of(names[i]) for key, group in samples.items() if primary[key] for i in group} - {
        suffix_of(names[i]) for group in primary.values() for i in group
    }
    unclear = [
        key
        for key, group in samples.items()
        if len(primary[key]) != 1 and (primary[key] or not {suffix_of(names[i]) for i in group} <= others)
    ]
    if unclear:
        found = ", ".join(f".{suffix} ({number})" for suffix, number in suffixes.most_common(8))
        raise ValueError(
            f"{origin} holds several images of one sample (of {unclear[0]!r}, for example), by suffix: {found}; pass "
            f"suffix (--suffix) with those to read, or {ALL!r} for all"
        )
    kept = {i for group in primary.values() for i in group}
    for i in images:
        if i not in kept:
            ignored.add(f"further image of a sample .{suffix_of(names[i])}", names[i])
    return [i for i in images if i in kept]


def _extension(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def suffix_of(name: str) -> str:
    """What follows the first dot of the base name, in lower case."""
    return posixpath.basename(name).partition(".")[2].lower()


def _key(name: str) -> str:
    """The name without its suffix: that of a sample in a WebDataset."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.partition(".")[0])
