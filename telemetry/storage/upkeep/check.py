"""Examines every file of a data directory against its checkpoint, says what is wrong, and mends what can be mended."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from telemetry.runtime.datadir import DataDirectoryLock
from telemetry.runtime.errors import DataDirectoryError
from telemetry.storage import files
from telemetry.storage.checkpoint import Checkpoint
from telemetry.storage.cold.alone import alone
from telemetry.storage.cold.damage import DAMAGED
from telemetry.storage.cold.files import ColdFile, HotSegment, Level
from telemetry.storage.cold.segments import read_segments
from telemetry.storage.cold.verify import verify
from telemetry.storage.coldset import JOB_END_S
from telemetry.storage.quarantine import NAME as QUARANTINE
from telemetry.storage.quarantine import Extent, Quarantine, closed_files, open_vouched, vouched_file
from telemetry.storage.quarantine import closed_name as closed_quarantine
from telemetry.storage.recovery import recover
from telemetry.storage.segments import SUFFIX
from telemetry.storage.store import StoreError
from telemetry.storage.upkeep.catalogue import COLD, DATABASE, HOT, Catalogue, HotFile, snapshot

LOOKS_MAX: Final = 3
"""How often something that seems wrong while a collector is at work is looked at before it is believed."""

_LINES_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        path: the file, relative to the data directory.
        what: what is wrong.
        is_damage: whether data is lost or wrong; otherwise something is merely left over.
        remedy: what ``repair`` does, or empty if there is nothing it can do.
        repaired: whether it was done.
    """

    path: str
    what: str
    is_damage: bool
    remedy: str = ""
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What an examination found.

    Attributes:
        problems: what is wrong.
        hot_files: files of the hot tier that were examined.
        cold_files: files of the cold tier that were examined.
        examined_bytes: how many bytes were read.
        at_rest: whether no collector was at work.
    """

    problems: Sequence[Problem]
    hot_files: int
    cold_files: int
    examined_bytes: int
    at_rest: bool

    @property
    def is_sound(self) -> bool:
        """Whether there is no damage left."""
        return not any(problem.is_damage and not problem.repaired for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "sound": self.is_sound,
            "at_rest": self.at_rest,
            "hot_files": self.hot_files,
            "cold_files": self.cold_files,
            "examined_bytes": self.examined_bytes,
            "problems": [
                {
                    "path": problem.path,
                    "problem": problem.what,
                    "damage": problem.is_damage,
                    "remedy": problem.remedy or None,
                    "repaired": problem.repaired,
                }
                for problem in self.problems
            ],
        }


def check(directory: Path, *, repair: bool = False) -> Report:
    """Examine a data directory, which a collector may be using unless it shall be repaired.

    Raises:
        DataDirectoryError: it cannot be examined, or be repaired because a collector uses it.
    """
    if not (directory / DATABASE).is_file():
        raise DataDirectoryError(f"{directory} is no collector's data directory: it has no {DATABASE}")
    try:
        lock = DataDirectoryLock(directory)
    except DataDirectoryError:
        if repair:
            raise
        return _check_at_work(directory)
    with lock:
        catalogue = _look(directory)
        problems = examine(directory, catalogue, at_rest=True)
        if repair and problems:
            _repair(directory, catalogue, problems)
            left = examine(directory, _look(directory), at_rest=True)
            problems = [replace(each, repaired=not _is_among(each, left)) for each in problems]
    return _report(catalogue, problems, at_rest=True)


def examine(
    directory: Path, catalogue: Catalogue, *, at_rest: bool, only: Collection[str] | None = None
) -> list[Problem]:
    """Compare files, all or ``only`` some, with what they should be. Leftovers are told from work only ``at_rest``."""
    return list(_examine(directory, catalogue, at_rest, lambda path: only is None or path in only))


def _check_at_work(directory: Path) -> Report:
    """What looks wrong may only have moved on since the checkpoint was read, so it is looked at again."""
    catalogue = _look(directory)
    problems = examine(directory, catalogue, at_rest=False)
    for _ in range(LOOKS_MAX - 1):
        if problems:
            only = {problem.path for problem in problems}
            problems = examine(directory, _look(directory), at_rest=False, only=only)
    return _report(catalogue, problems, at_rest=False)


def _report(catalogue: Catalogue, problems: Sequence[Problem], *, at_rest: bool) -> Report:
    examined = sum(file.length for file in catalogue.hot) + sum(file.size for file in catalogue.cold)
    return Report(problems, len(catalogue.hot), len(catalogue.cold), examined, at_rest)


def _look(directory: Path) -> Catalogue:
    with tempfile.TemporaryDirectory(prefix="telemetry-") as folder:
        return snapshot(directory, Path(folder) / DATABASE)


def _examine(
    directory: Path, catalogue: Catalogue, at_rest: bool, is_wanted: Callable[[str], bool]
) -> Iterator[Problem]:
    for hot in catalogue.hot:
        if is_wanted(f"{HOT}/{hot.name}"):
            yield from _examine_hot(directory / HOT, hot, at_rest)
    for cold in catalogue.cold:
        if is_wanted(f"{COLD}/{cold.path}"):
            for what in verify(cold, directory / COLD):
                yield Problem(f"{COLD}/{cold.path}", what, True, _cold_remedy(directory, cold))
    yield from _examine_quarantine(directory, catalogue.quarantine, is_wanted)
    if at_rest:
        yield from _leftovers(directory, catalogue)


def _examine_hot(folder: Path, file: HotFile, at_rest: bool) -> Iterator[Problem]:
    path, shown = folder / file.name, f"{HOT}/{file.name}"
    if file.closed_as and (folder / file.closed_as).exists():
        path = folder / file.closed_as
        if at_rest:
            yield Problem(shown, f"it was closed as {file.closed_as}, never committed", False, "let it grow again")
    size = _size(path)
    if size < file.length:
        what = f"it lacks {file.length - size:,} of {file.length:,} bytes" if size else "it is missing or empty"
        yield Problem(shown, what, True, "take the records in it as lost")
    elif size > file.length and at_rest:
        yield Problem(shown, f"{size - file.length:,} bytes at its end were never committed", False, "cut them off")
    try:
        segments = [HotSegment(file.gpu, path, min(size, file.length))]
        lines = [line for _, damaged in read_segments(segments) for line in damaged] if size else []
    except (OSError, EOFError) as error:
        yield Problem(shown, f"it cannot be read: {error}", True)
        return
    if lines:
        where = ", ".join(f"at byte {line.offset:,}: {line.reason}" for line in lines[:_LINES_NAMED])
        more = "" if len(lines) <= _LINES_NAMED else ", …"
        count = f"{len(lines):,} lines are" if len(lines) > 1 else "1 line is"
        yield Problem(shown, f"{count} no record ({where}{more})", True)


def _examine_quarantine(directory: Path, extent: Extent, is_wanted: Callable[[str], bool]) -> Iterator[Problem]:
    numbers = sorted(number for number, _ in closed_files(directory) if number < extent.closed)
    for before, after in pairwise([*numbers, extent.closed]):
        # Only the oldest ever goes by itself.
        if after > before + 1 and is_wanted(name := closed_quarantine(before + 1)):
            more = f", and so are the {after - before - 2:,} after it" if after > before + 2 else ""
            yield Problem(name, f"it is missing{more}", True)
    for name in filter(is_wanted, map(closed_quarantine, numbers)):
        # The oldest may go at any moment.
        with suppress(FileNotFoundError):
            yield from _examine_entries(name, lambda: (directory / name).open("rb"))  # noqa: B023
    if is_wanted(QUARANTINE):
        yield from _examine_entries(QUARANTINE, lambda: open_vouched(directory, extent) or io.BytesIO(), extent.length)


def _examine_entries(shown: str, opened: Callable[[], BinaryIO], length: int | None = None) -> Iterator[Problem]:
    """Look at the lines of a file of the quarantine, up to ``length`` if not all of it need be committed.

    Raises:
        FileNotFoundError: there is none.
    """
    place, damaged = 0, list[int]()
    try:
        with opened() as file:
            for line in file:
                if length is not None and place + len(line) > length:
                    break
                if not _is_entry(line):
                    damaged.append(place)
                place += len(line)
    except FileNotFoundError:
        raise
    except OSError as error:
        yield Problem(shown, f"it cannot be read: {error}", True)
        return
    if length is not None and place < length:
        yield Problem(shown, f"it lacks {length - place:,} bytes at its end", True, "take the lines in it as lost")
    if damaged:
        where = ", ".join(f"{each:,}" for each in damaged[:_LINES_NAMED])
        more = "" if len(damaged) <= _LINES_NAMED else ", …"
        count = f"{len(damaged):,} lines are no entries" if len(damaged) > 1 else "1 line is no entry"
        yield Problem(shown, f"{count} (at byte {where}{more})", True)


def _is_entry(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _leftovers(directory: Path, catalogue: Catalogue) -> Iterator[Problem]:
    known = {name for file in catalogue.hot for name in (file.name, file.closed_as)}
    remedy = "remove it"
    for name, size in sorted(files.file_sizes(directory / HOT, SUFFIX)) if (directory / HOT).is_dir() else ():
        if name not in known and size:
            yield Problem(f"{HOT}/{name}", f"no checkpoint vouches for it ({size:,} bytes)", False, remedy)
    paths = {file.path for file in catalogue.cold}
    for level in Level:
        folder = directory / COLD / level.value
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if f"{level.value}/{path.name}" not in paths and path.is_file():
                size = path.stat().st_size
                shown = str(path.relative_to(directory))
                yield Problem(shown, f"no checkpoint vouches for it ({size:,} bytes)", False, remedy)
    for number, size in sorted(closed_files(directory)):
        if number > catalogue.quarantine.closed:
            yield Problem(closed_quarantine(number), f"no checkpoint vouches for it ({size:,} bytes)", False, remedy)
    vouched = vouched_file(directory, catalogue.quarantine)
    if vouched.name != QUARANTINE:
        yield Problem(QUARANTINE, f"it was closed as {vouched.name}, never committed", False, "let it grow again")
    if (size := _size(vouched)) > catalogue.quarantine.length:
        extra = size - catalogue.quarantine.length
        yield Problem(QUARANTINE, f"{extra:,} bytes at its end were never committed", False, "cut them off")


def _cold_remedy(directory: Path, file: ColdFile) -> str:
    if not (directory / COLD / file.path).exists():
        return "take the records in it as lost" if not file.level.is_rollup else "answer from records instead"
    return f"move it to {COLD}/{DAMAGED}" + ("" if not file.level.is_rollup else " and answer from records instead")


def _repair(directory: Path, catalogue: Catalogue, problems: Sequence[Problem]) -> None:
    """Bring the directory back to what can be vouched for. The lock is held.

    Raises:
        DataDirectoryError: it cannot be written.
    """
    damaged = {problem.path for problem in problems}
    bad = [file for file in catalogue.cold if f"{COLD}/{file.path}" in damaged]
    try:
        checkpoint = Checkpoint(directory / DATABASE, synced=True)
        try:
            # First a second name, then the checkpoint, then the first name: a crash in between loses nothing.
            for file in bad:
                _keep_aside(directory / COLD, file)
            gone = [file.id for file in bad]
            checkpoint.exchange([], gone=gone, segments=[], now_us=time.time_ns() // 1000, next_number=0)
            for file in bad:
                (directory / COLD / file.path).unlink(missing_ok=True)
            (directory / HOT).mkdir(exist_ok=True)
            recover(directory / HOT, checkpoint)
            quarantine = Quarantine(directory, catalogue.quarantine, synced=True)
            checkpoint.commit([], [], [], {}, quarantine.extent)
        finally:
            checkpoint.close()
        left = [each.path for each in problems if not each.is_damage and each.path.startswith(f"{COLD}/")]
        if left:
            with alone(directory / COLD, JOB_END_S):
                for path in left:
                    (directory / path).unlink(missing_ok=True)
    except (OSError, StoreError) as error:
        raise DataDirectoryError(f"{directory} cannot be repaired: {error}") from None


def _keep_aside(folder: Path, file: ColdFile) -> None:
    path = folder / file.path
    if path.exists():
        kept = folder / DAMAGED / path.name
        kept.parent.mkdir(exist_ok=True)
        kept.unlink(missing_ok=True)
        try:
            os.link(path, kept)
        except OSError:
            shutil.copy2(path, kept)


def _is_among(problem: Problem, others: Sequence[Problem]) -> bool:
    return any((problem.path, problem.what) == (other.path, other.what) for other in others)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
