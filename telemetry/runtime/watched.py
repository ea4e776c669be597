"""What was made of some files, made anew when the files change, without a restart."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final, Generic, TypeVar

from telemetry.runtime.errors import StartupError

log = logging.getLogger(__name__)

RECHECK_S: Final = 1.0
"""How long a change of a file may go unnoticed."""

_Value = TypeVar("_Value")


class Watched(Generic[_Value]):
    """A value and the files that it was read from. May be asked from several threads.

    Files are looked at when somebody asks, so nothing runs in between. If they are of no use after a change (half
    written, gone, wrong), the value before stays in force and the log says why.
    """

    def __init__(
        self, paths: Sequence[Path], load: Callable[[], _Value], clock: Callable[[], float] = monotonic
    ) -> None:
        """Read the value for the first time.

        Args:
            paths: the files.
            load: reads them; raises StartupError, whose text may not hold what is secret in them.
            clock: seconds.

        Raises:
            StartupError: if the files are of no use.
        """
        self._paths = paths
        self._load = load
        self._clock = clock
        self._lock = threading.Lock()
        self._stamps = self._look()
        self._value = load()
        self._trouble = ""
        self._look_at = clock() + RECHECK_S

    def current(self) -> _Value:
        """The value as of a moment ago."""
        if self._clock() >= self._look_at:
            with self._lock:
                self._renew()
        return self._value

    def _renew(self) -> None:
        now = self._clock()
        if now < self._look_at:  # another thread was here
            return
        self._look_at = now + RECHECK_S
        stamps = self._look()
        if stamps == self._stamps:
            return
        try:
            self._value = self._load()
        except StartupError as error:
            # Tried again: what was wrong, such as who may read or write a file, need not show in the stamps.
            if str(error) != self._trouble:
                log.error("files have changed and are of no use; what was there before stays in force: %s", error)
            self._trouble = str(error)
        else:
            self._stamps, self._trouble = stamps, ""
            log.info("read anew", extra={"files": ", ".join(map(str, self._paths))})

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; ``None`` when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
