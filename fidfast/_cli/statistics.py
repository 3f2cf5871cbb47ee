"""The commands ``fidfast stats`` and ``fidfast merge``."""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from fidfast import _core
from fidfast._cli.checkpoints import check_shard, checkpoint_of_stats, write_continued
from fidfast._cli.output import Output, lines_of_images, or_unknown
from fidfast._cli.sources import Sources, check_writes, ddof_of
from fidfast._files import npz_path
from fidfast._merging import merge_parts
from fidfast._parts import SUFFIX, SourceMoments
from fidfast._stats import ClassMoments, GaussianStats, Moments, save_stats

__all__ = ["merge_moments", "write_stats"]


def write_stats(options: argparse.Namespace, output: Output) -> None:
    """Write the statistics or moments of one source."""
    out = npz_path(options.out)
    checkpoint = checkpoint_of_stats(options)
    if options.extractor and options.extractors:
        raise ValueError("--extractor and --extractors exclude each other: pass one of them")
    as_moments = out.endswith(SUFFIX)
    if options.shard and not as_moments:
        raise ValueError(f"--shard writes moments, which can be merged: OUT must end in {SUFFIX}, got {options.out}")
    outs = _files_of_extractors(out, options.extractors) if as_moments and options.extractors else [out]
    for path in outs if options.shard else ():
        check_shard(path, options.shard)
    options.shard = options.shard or ("1/1" if as_moments else None)
    sources = Sources(
        options,
        {"source": options.source},
        writes=[*([options.out] if os.path.isdir(options.out) else []), *outs, checkpoint],
        checkpoint=checkpoint,
        ddof=ddof_of(options),
        moments=as_moments,
    )
    write_continued(options)
    if as_moments:
        found = sources.moments()
        with sources.removing_checkpoint():
            if not options.launch.continues():
                return
            for one, path in zip(found, outs, strict=True):
                _save(one.save, path)
        if options.json:
            described = [_described(one.moments, path, parts=one.parts) for one, path in zip(found, outs, strict=True)]
            _write_json(described, sources, output)
            return
        output.lines([*_lines_of_moments(found, outs), *sources.lines()])
        return
    if options.extractors is None:
        every = [sources.stats("source")]
        save = every[0].save
    else:
        by_extractor = sources.stats_by_extractor()
        every = list(by_extractor.values())
        save = partial(save_stats, stats=by_extractor)
    with sources.removing_checkpoint():
        if not options.launch.continues():
            return
        _save(save, out)
    if options.json:
        _write_json([_described(stats, out, ddof=stats.ddof) for stats in every], sources, output)
        return
    lines = [
        f"{out}: dim {stats.dim}, num_samples {or_unknown(stats.num_samples)}, extractor {or_unknown(stats.extractor)}"
        for stats in every
    ]
    output.lines([*lines, *(stats.caution for stats in every if stats.caution is not None), *sources.lines()])


def _described(found: GaussianStats | Moments | ClassMoments, file: str, **others: Any) -> dict[str, Any]:
    holds = "statistics" if isinstance(found, GaussianStats) else "moments"
    common = {"dim": found.dim, "num_samples": found.num_samples, "extractor": found.extractor}
    return {"file": file, "holds": holds, **common, **others}


def _write_json(written: Sequence[Mapping[str, Any]], sources: Sources, output: Output) -> None:
    output.json({"written": written, **sources.facts(), "fidfast_version": _core.__version__})


def _files_of_extractors(out: str, extractors: Sequence[str]) -> list[str]:
    """The files of moments of several extractors: ``out.inception.moments.npz``, ..."""
    stem = out.removesuffix(SUFFIX)
    return [stem + re.sub(r"[^\w.+-]", "-", f".{name}") + SUFFIX for name in extractors]


def _lines_of_moments(every: Sequence[SourceMoments], files: Sequence[str]) -> Iterator[str]:
    for one, file in zip(every, files, strict=True):
        shards = "".join(f"{part}, " for part in one.parts if part.shards > 1)
        moments = one.moments
        yield (
            f"{file}: moments, {shards}dim {moments.dim}, num_samples {moments.num_samples}, "
            f"extractor {or_unknown(moments.extractor)}"
        )


def merge_moments(options: argparse.Namespace, output: Output) -> None:
    """Merge files of moments."""
    out, ddof = npz_path(options.out), ddof_of(options)
    check_writes([out], options.files)
    found = merge_parts(options.files, progress=not options.quiet)
    if out.endswith(SUFFIX):
        found.save(out)
    elif isinstance(found.moments, ClassMoments):
        raise ValueError(f"the files hold ClassMoments, which are merged as moments: OUT must end in {SUFFIX}")
    else:
        found.moments.stats(ddof=ddof).save(out)
    if options.json:
        output.json({"file": out, **found.to_dict(), "fidfast_version": _core.__version__})
        return
    (line,) = _lines_of_moments([found], [out])
    line = line if out.endswith(SUFFIX) else line.replace(": moments, ", ": ", 1)
    sources = "1 source" if len(found.parts) == 1 else f"{len(found.parts)} sources"
    output.lines([line, *lines_of_images({}, {f"merged from {sources}": found.skipped} if found.skipped else {})])


def _save(save: Callable[[str], None], out: str) -> None:
    """Save the statistics; if that fails, to the folder for temporary files, since the images have been processed."""
    try:
        save(out)
    except OSError as error:
        reason = str(error).removeprefix(f"cannot write {out}: ")
        try:
            rescued = os.path.join(tempfile.mkdtemp(prefix="fidfast-"), os.path.basename(out))
            save(rescued)
        except OSError as second:
            raise RuntimeError(
                f"cannot write {out} ({reason}), nor to the folder for temporary files ({second})"
            ) from error
        raise OSError(f"cannot write {out} ({reason}); the statistics are in {rescued}") from error
