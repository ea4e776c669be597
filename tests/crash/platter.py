"""The queue on a disk that forgets: `python -m tests.crash.platter PLATTER FORGET [the queue's arguments]`.

Runs the very program, with the calls that make things durable watched. Beside the data directory it keeps a *platter*:
what the disk would hold if the power went now. A byte of the log gets there by an fsync of its file, a name by an fsync
of its directory, a position by a COMMIT while SQLite syncs each of them. FORGET says which syncs are left out:
`nothing`, `log` or `positions`. `cut_power` then makes a killed queue's directory what the platter says.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

LOG: Final = "log"
CATALOGUE: Final = "catalogue.sqlite"
NAMES: Final = "names.json"
SECTOR_BYTES: Final = 512
NAME_LOST: Final = 0.75
"""How often a file goes whose name was not synced."""
SYNC_S: Final = 0.005
"""How much longer a sync takes, so that there is something to lose when the power goes."""
SYNCS_EACH_COMMIT: Final = 2
"""What `PRAGMA synchronous` says when it is FULL."""


class Platter:
    """Stands between a program and the operating system."""

    def __init__(self, data: Path, platter: Path, forget: str) -> None:
        self._log = data / LOG
        self._platter = platter
        self._forget = forget
        self._unsynced: dict[str, list[tuple[int, int]]] = defaultdict(list)
        (platter / LOG).mkdir(parents=True, exist_ok=True)
        if self._log.exists():
            # What a process before this one has written may still wait for its sync.
            for path in self._log.iterdir():
                self._unsynced[path.name].append((0, len(path.read_bytes().rstrip(b"\0"))))

    def install(self) -> None:
        """Watch this process."""
        pwritev, connect = os.pwritev, sqlite3.connect
        platter = self

        def watched_pwritev(fd: int, buffers: Sequence[bytes], offset: int, flags: int = 0) -> int:
            written = pwritev(fd, buffers, offset, flags)
            self._unsynced[_path_of(fd).name].append((offset, written))
            return written

        def watched(sync: Callable[[int], None]) -> Callable[[int], None]:
            # In front of the sync, what it is about is written and not yet safe.
            def synced(fd: int) -> None:
                path = _path_of(fd)
                if self._forget == "log" and self._log in (path, path.parent):
                    return
                time.sleep(SYNC_S)
                sync(fd)
                if path == self._log:
                    self._keep_names()
                elif path.parent == self._log:
                    self._keep_bytes(fd, path.name)

            return synced

        class Watched(sqlite3.Connection):
            def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
                if sql.startswith("PRAGMA synchronous =") and platter._forget == "positions":
                    sql = "PRAGMA synchronous = OFF"
                cursor = super().execute(sql, parameters)
                if sql == "COMMIT":
                    platter._keep_catalogue(self)
                return cursor

            def executescript(self, sql_script: str, /) -> sqlite3.Cursor:
                cursor = super().executescript(sql_script)
                platter._keep_catalogue(self)
                return cursor

        os.pwritev = watched_pwritev  # type: ignore[assignment]
        os.fsync, os.fdatasync = watched(os.fsync), watched(os.fdatasync)  # type: ignore[assignment]
        sqlite3.connect = lambda *args, **more: connect(*args, **more, factory=Watched)  # type: ignore[assignment]

    def _keep_bytes(self, fd: int, name: str) -> None:
        kept = os.open(self._platter / LOG / name, os.O_WRONLY | os.O_CREAT, 0o644)
        size = os.fstat(fd).st_size
        # A file that was written by other calls than those watched is taken as a whole.
        for offset, length in self._unsynced.pop(name, [(0, size)]):
            os.pwrite(kept, os.pread(fd, length, offset), offset)
        os.ftruncate(kept, size)
        os.close(kept)

    def _keep_names(self) -> None:
        names = sorted(os.listdir(self._log))  # noqa: PTH208 (names, not paths)
        _replace(self._platter / NAMES, json.dumps(names).encode())

    def _keep_catalogue(self, connection: sqlite3.Connection) -> None:
        (level,) = connection.execute("PRAGMA synchronous").fetchone()
        if level >= SYNCS_EACH_COMMIT:
            _replace(self._platter / CATALOGUE, connection.serialize())


def cut_power(data: Path, platter: Path, chance: random.Random) -> None:
    """Make the directory of a queue that was killed what a power cut would have left of it.

    What was not synced is gone, or parts of it have made it to the disk all the same, as disks do.
    """
    log, kept = data / LOG, platter / LOG
    names = set(json.loads((platter / NAMES).read_bytes()))
    for name in sorted({path.name for path in log.iterdir()} | names):
        _cut_file(log / name, kept / name, name in names, chance)
    # From now on this is what the disk holds.
    for path in kept.iterdir():
        path.unlink()
    for path in log.iterdir():
        shutil.copyfile(path, kept / path.name)
    _replace(platter / NAMES, json.dumps([path.name for path in log.iterdir()]).encode())
    for suffix in ("", "-wal", "-shm"):
        (data / f"{CATALOGUE}{suffix}").unlink(missing_ok=True)
    if (platter / CATALOGUE).exists():
        shutil.copyfile(platter / CATALOGUE, data / CATALOGUE)


def _cut_file(path: Path, kept: Path, named: bool, chance: random.Random) -> None:
    if not named and chance.random() < NAME_LOST:
        path.unlink()
        return
    synced = kept.read_bytes() if kept.exists() else b""
    written = (path.read_bytes() if path.exists() else synced).rstrip(b"\0")
    durable = bytearray(synced)
    sectors = [slice(at, min(at + SECTOR_BYTES, len(written))) for at in range(0, len(written), SECTOR_BYTES)]
    for sector in _survivors([one for one in sectors if written[one] != durable[one]], chance):
        durable.extend(bytes(max(0, sector.stop - len(durable))))
        durable[sector] = written[sector]
    path.write_bytes(durable)


def _survivors(sectors: Sequence[slice], chance: random.Random) -> Sequence[slice]:
    how = chance.choice(["none", "first", "any"])
    if how == "none":
        return ()
    if how == "first":
        return sectors[: chance.randrange(len(sectors) + 1)]
    return [sector for sector in sectors if chance.random() < 0.5]


def _path_of(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}").readlink()


def _replace(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def main() -> None:
    """Run the queue, watched."""
    from telemetry.cli.queue import queue

    platter, forget, *arguments = sys.argv[1:]
    data = next(one.removeprefix("--data-dir=") for one in arguments if one.startswith("--data-dir="))
    Platter(Path(data).resolve(), Path(platter), forget).install()
    queue(arguments)


if __name__ == "__main__":
    main()
