"""The files that the log is made of: named by the position at which they begin, one written, the others only read.

A segment begins with a header of 64 bytes: magic, version, position, and a CRC-32C of those. Records follow. While a
segment is written its room is set aside in advance, so that it ends in zeros; when it is closed, a seal is written and
the file is cut behind it. A position is a byte of the log as a whole: the segment's plus the offset in the file.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import google_crc32c

from telemetry.queue.engines.files import FULL_ERRNOS, Files
from telemetry.queue.engines.records import SEAL_TOPIC, encode
from telemetry.runtime.errors import DataDirectoryError

SEGMENT_HEADER_BYTES: Final = 64
SEGMENT_SUFFIX: Final = ".segment"
FORMAT_VERSION: Final = 1
_MAGIC: Final = b"TQSEGMNT"
_HEADER: Final = struct.Struct("<8sIIQ")
_IOV_MAX: Final = 1024


def segment_path(directory: Path, base: int) -> Path:
    """The file of the segment that begins at position ``base``."""
    return directory / f"{base:020d}{SEGMENT_SUFFIX}"


def list_segments(files: Files, directory: Path) -> list[tuple[int, Path]]:
    """The segments of a directory with the positions at which they begin, in order."""
    paths = files.list(directory, SEGMENT_SUFFIX)
    return sorted((int(path.stem), path) for path in paths if path.stem.isdecimal())


def segment_header(base: int) -> bytes:
    """What a segment's file begins with."""
    header = _HEADER.pack(_MAGIC, FORMAT_VERSION, 0, base)
    checksum: int = google_crc32c.value(header)
    return (header + checksum.to_bytes(4, "little")).ljust(SEGMENT_HEADER_BYTES, b"\0")


def header_is_intact(path: Path, base: int, data: bytes) -> bool:
    """Whether a file begins as a segment should; one that the crash left without its first bytes does not.

    Raises:
        DataDirectoryError: if it was written by a version that this one cannot read.
    """
    if data[: len(_MAGIC)] == _MAGIC and len(data) >= SEGMENT_HEADER_BYTES:
        _, version, _, _ = _HEADER.unpack_from(data)
        checked = google_crc32c.value(bytes(data[: _HEADER.size])).to_bytes(4, "little")
        if checked == data[_HEADER.size : _HEADER.size + 4] and version != FORMAT_VERSION:
            raise DataDirectoryError(f"{path} has format version {version}; this program reads {FORMAT_VERSION}")
    return data[:SEGMENT_HEADER_BYTES] == segment_header(base)


class SyncFailedError(Exception):
    """The disk did not take what it was given, and which part of it is unknown. Nothing can be promised any more."""


class SegmentWriter:
    """The segment that is written. Used in one thread. `OSError` means that nothing has changed."""

    def __init__(self, files: Files, directory: Path, base: int, room: int) -> None:
        """Make the file with ``room`` bytes set aside, durable with its name. Leaves nothing behind when it fails."""
        self.base = base
        self._files = files
        self._directory = directory
        self.end = base + SEGMENT_HEADER_BYTES
        path = segment_path(directory, base)
        self._fd = files.make(path)
        try:
            files.allocate(self._fd, room)
            self._write_all([segment_header(base)], 0)
            files.sync(self._fd)
            files.sync_directory(directory)
        except BaseException:
            files.close(self._fd)
            with contextlib.suppress(OSError):
                files.remove(path)
            raise

    def write(self, buffers: Sequence[bytes]) -> None:
        """Append bytes behind the last."""
        self.end += self._write_all(buffers, self.end - self.base)

    def cut_back(self) -> None:
        """Cut off what a write that failed has left behind the end."""
        self._files.truncate(self._fd, self.end - self.base)

    def sync(self) -> None:
        """Make what was written durable.

        Raises:
            SyncFailedError: if it cannot be known what is on the disk.
        """
        try:
            self._files.sync_data(self._fd)
        except OSError as error:
            raise SyncFailedError(
                f"{segment_path(self._directory, self.base)}: fsync failed: {error.strerror}"
            ) from error

    def seal(self) -> None:
        """End the segment for good: durable, and with a mark that says so, if there is room for that."""
        self.sync()
        seal, _, _ = encode(
            b"", topic_id=SEAL_TOPIC, partition=0, base_offset=0, messages=0, time_us=0, durable=self.end
        )
        try:
            try:
                self.write([seal])
            except OSError as error:
                if error.errno not in FULL_ERRNOS:
                    raise
            # Where there was no room for all of the seal, a part of it would look like damage.
            self.cut_back()
            self._files.sync(self._fd)
        except OSError as error:
            raise SyncFailedError(f"{segment_path(self._directory, self.base)}: {error.strerror}") from error
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd = -1

    def _write_all(self, buffers: Sequence[bytes], offset: int) -> int:
        """Write all of the buffers; returns how many bytes they have."""
        start = offset
        for at in range(0, len(buffers), _IOV_MAX):
            rest = list(buffers[at : at + _IOV_MAX])
            while rest:
                written = self._files.write(self._fd, rest, offset)
                offset += written
                while rest and written >= len(rest[0]):
                    written -= len(rest[0])
                    rest.pop(0)
                if rest and written:
                    rest[0] = rest[0][written:]
        return offset - start
