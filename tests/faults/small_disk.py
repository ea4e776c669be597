"""A file system so small that a test can fill it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

BLOCK = bytes(4096)


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A tmpfs. What fills it besides the queue is one file, the ballast."""

    place: Path

    @property
    def free(self) -> int:
        """Bytes that may still be written."""
        disk = os.statvfs(self.place)
        return disk.f_bavail * disk.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Leave only so many bytes free, in whole blocks of 4 KiB."""
        self.relieve()
        with (self.place / "ballast").open("wb", buffering=0) as ballast:
            os.posix_fallocate(ballast.fileno(), 0, max(len(BLOCK), self.free - leave) // len(BLOCK) * len(BLOCK))

    def relieve(self) -> None:
        """Take the ballast away."""
        (self.place / "ballast").unlink(missing_ok=True)

    def grow(self, mib: int) -> None:
        """Make the file system larger."""
        subprocess.run(["mount", "-o", f"remount,size={mib}m", self.place], check=True)
