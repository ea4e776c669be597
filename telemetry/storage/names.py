"""File names for GPU names: safe on every file system, readable where they can be, never two GPUs to one file."""

from __future__ import annotations

import hashlib
import string
from typing import Final

FILE_NAME_BYTES_MAX: Final = 200
"""Longest stem; file systems allow 255 bytes, and the suffix needs some."""

_PLAIN: Final = frozenset((string.ascii_letters + string.digits + "-_.").encode())


def file_stem(gpu: str) -> str:
    """Return the stem of a GPU's file name.

    Letters, digits, ``-``, ``_`` and ``.`` stay (a leading ``.`` does not); every other byte becomes ``%xx``. Names
    with upper-case letters get ``~`` and a hash as well, since some file systems hold ``GPU-A`` and ``gpu-a`` for the
    same; names that are too long are cut and get a longer one.
    """
    stem = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in gpu.encode())
    if stem.startswith("."):
        stem = f"%2e{stem[1:]}"
    digest = hashlib.sha256(gpu.encode()).hexdigest()
    if len(stem) > FILE_NAME_BYTES_MAX - 17:
        return f"{stem[:150]}~{digest[:32]}"
    return f"{stem}~{digest[:16]}" if stem != stem.lower() else stem
