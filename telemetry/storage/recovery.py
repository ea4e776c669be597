"""What opening the hot tier makes of its files: exactly what the checkpoint vouches for, or a loss that it reports."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from telemetry.storage import files
from telemetry.storage.checkpoint import Block, Checkpoint, Entry, Segment
from telemetry.storage.segments import SUFFIX, closed_name, growing_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is there: every GPU and every closed file."""

    entries: Sequence[Entry]
    segments: Sequence[Segment]


def recover(directory: Path, checkpoint: Checkpoint) -> Recovery:
    """Undo what no transaction vouches for, and take note of files that are shorter than they should be.

    Raises:
        OSError: the files cannot be used.
        StoreError: the checkpoint cannot be used.
    """
    checkpoint.forget_stray_blocks()
    entries = {entry.file: entry for entry in checkpoint.entries()}
    by_number = {entry.number: entry for entry in entries.values()}
    segments = {closed_name(by_number[each.gpu].file, each.number): each for each in checkpoint.segments()}
    sizes = _with_closings_undone(directory, entries, segments)
    for name in sizes.keys() - entries.keys() - segments.keys():
        log.warning("removed a file that no checkpoint vouches for", extra={"file": name, "bytes": sizes[name]})
        (directory / name).unlink()
    kept_segments = [
        _kept_segment(directory / name, segment, by_number[segment.gpu], sizes.get(name, 0), checkpoint)
        for name, segment in segments.items()
    ]
    kept_entries = [
        _kept_entry(directory / name, entry, sizes.get(name, 0), checkpoint) for name, entry in entries.items()
    ]
    return Recovery(kept_entries, kept_segments)


def _with_closings_undone(directory: Path, entries: dict[str, Entry], segments: dict[str, Segment]) -> dict[str, int]:
    """Rename back what was closed without a transaction to vouch for it; returns the size of each file."""
    sizes = dict(files.file_sizes(directory, SUFFIX))
    for name in [name for name in sizes if name not in segments]:
        origin = growing_name(name)
        entry = entries.get(origin[0]) if origin else None
        if origin and entry and origin[1] == entry.closed:
            # What lies under the growing name by now was never vouched for either.
            (directory / name).replace(directory / entry.file)
            sizes[entry.file] = sizes.pop(name)
            log.info("a file that was closed without a checkpoint grows again", extra={"file": entry.file})
    return sizes


def _kept_entry(path: Path, entry: Entry, size: int, checkpoint: Checkpoint) -> Entry:
    if size >= entry.block.end - entry.base:
        files.cut(path, entry.block.end - entry.base)
        return entry
    last = _last_block(path, entry, entry.base, entry.block.end, size, checkpoint)
    checkpoint.shorten(entry.number, entry.base, last)
    return replace(entry, block=last)


def _kept_segment(path: Path, segment: Segment, entry: Entry, size: int, checkpoint: Checkpoint) -> Segment:
    if size >= segment.end - segment.start:
        files.cut(path, segment.end - segment.start)
        return segment
    last = _last_block(path, entry, segment.start, segment.end, size, checkpoint)
    checkpoint.shorten_segment(segment, last)
    return replace(segment, end=last.end)


def _last_block(path: Path, entry: Entry, start: int, end: int, size: int, checkpoint: Checkpoint) -> Block:
    """The last block of a file that lost its end, which is cut to whole lines: a block of unknown times."""
    kept = files.read_range(path, 0, size).rfind(b"\n") + 1 if size else 0
    if size:
        files.cut(path, kept)
    log.error("records are missing", extra={"file": str(path), "bytes": end - start - kept})
    finished = checkpoint.all_blocks(entry.number, start, start + kept)
    # The lost end may begin before the last block.
    first = max((block.end for block in finished if block.end <= start + kept), default=start)
    return Block(first, start + kept, entry.gpu.first_us, entry.gpu.last_us)
