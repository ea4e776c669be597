"""Prometheus' remote write 1.0: samples as protobuf in snappy blocks, over HTTP.

    WriteRequest { 1: repeated TimeSeries }    TimeSeries { 1: repeated Label, 2: repeated Sample }
    Label { 1: name, 2: value }                Sample { 1: double value, 2: int64 milliseconds }

All samples of one instant have the same bytes but for the value, so a column of values becomes a column of samples at
the speed of numpy; a library that makes an object of each sample would measure itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Final

import cramjam
import numpy as np

SAMPLE_BYTES: Final = 18
"""A sample with its tag and length. Milliseconds take six bytes from 1971 to 2109."""
_VALUE: Final = slice(3, 11)

HEADERS: Final = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


def sample_template(times_ms: np.ndarray) -> np.ndarray:
    """The samples of one series at ``times_ms`` with room for the values."""
    rows = np.zeros((len(times_ms), SAMPLE_BYTES), np.uint8)
    rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 11] = 0x12, 16, 0x09, 0x10
    rest = times_ms.astype(np.uint64)
    assert (rest >> np.uint64(35)).all(), "these milliseconds take less than six bytes"
    assert not (rest >> np.uint64(42)).any(), "these milliseconds take more than six bytes"
    for place in range(6):
        more = 0x80 if place < 5 else 0
        rows[:, 12 + place] = (rest & np.uint64(0x7F)).astype(np.uint8) | more
        rest >>= np.uint64(7)
    return rows


def series_bytes(labels: bytes, template: np.ndarray, values: np.ndarray) -> bytes:
    """One series of a request: labels as :func:`label_bytes` writes them, and a value for each row of the template."""
    rows = template.copy()
    rows[:, _VALUE] = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
    return _field(1, labels + rows.tobytes())


def label_bytes(labels: Mapping[str, str]) -> bytes:
    """Labels, sorted by name as the protocol wants them."""
    return b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in sorted(labels.items())
    )


def compressed(series: Iterator[bytes]) -> bytes:
    """The body of a request."""
    return bytes(cramjam.snappy.compress_raw(b"".join(series)))


class RemoteWriter:
    """One connection."""

    def __init__(self, host: str, port: int, path: str) -> None:
        self._connection = HTTPConnection(host, port, timeout=120)
        self._path = path

    def send(self, body: bytes) -> None:
        """Send a body; returns when the server has taken it."""
        self._connection.request("POST", self._path, body, HEADERS)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise SystemExit(f"remote write: {response.status}: {answer[:300].decode(errors='replace')}")

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
