"""What must agree before checkpoints are merged, read without their matrices."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fidfast._files.readers import catalog_of, naming, parts_of, reading, state_of
from fidfast._files.records import Entries, SourcePart
from fidfast._files.write import STATE_MARK
from fidfast._files.zips import members_of

__all__ = ["StateHeader", "read_header"]


@dataclass(frozen=True)
class StateHeader:
    """A checkpoint of moments whose matrices have not been read."""

    path: str
    #: Name of the collector's class.
    kind: str
    #: By name: "extractor", "dim", ..., as text; "none" for an extractor without a name.
    settings: dict[str, str]
    parts: Sequence[SourcePart]
    #: Hash of all checksums and sizes, equal for equal moments.
    content: str

    def load(self) -> Entries:
        """The state, which is not checked."""
        with naming(self.path), reading(self.path):
            state = state_of(catalog_of(self.path), checked=False)
            if (state.kind, tuple(state.parts)) != (self.kind, tuple(self.parts)):
                raise ValueError("the file has changed while the files were merged: merge them again")
            return state.entries


def read_header(path: str | os.PathLike[str], kinds: Sequence[str]) -> StateHeader:
    """The header of a checkpoint.

    Parameters
    ----------
    path : path
    kinds : sequence of str
        The classes of collectors that are accepted.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it is damaged, belongs to an unfinished run, or holds anything else.
    """
    text = os.fspath(path)
    catalog = catalog_of(text)
    advice = "only moments can be merged: write them with fidfast stats SOURCE OUT.moments.npz, or Moments.save"
    if not catalog.is_state:
        raise ValueError(f"{text} holds {' and '.join(catalog.kinds) or 'other arrays'}; {advice}")
    with naming(text), reading(text):
        scalars = {key: str(entry.load()) for key, entry in catalog.entries.items() if entry.shape == ()}
        kind = scalars.pop(STATE_MARK)
        if "progress" in scalars:
            raise ValueError("it belongs to an unfinished run: finish it with the same command")
        if kind not in kinds:
            raise ValueError(f"it holds a checkpoint of {kind}; {advice}")
        parts = parts_of(scalars.pop("parts")) if "parts" in scalars else ()
        settings = {key: value or "none" for key, value in scalars.items() if "/" not in key}
        settings.pop("fidfast_version", None)
        if kind == "Moments":
            settings["blocks"] = str(len({key.partition("/")[0] for key in catalog.entries if "/" in key}))
        members = members_of(Path(text))
        listed = [f"{name} {member.size} {member.crc}" for name, member in sorted(members.items()) if "/" in name]
    return StateHeader(text, kind, settings, parts, hashlib.sha256("\n".join(listed).encode()).hexdigest())
