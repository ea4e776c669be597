"""Changes to a file with tokens: a new one, and one less. Comments and the other lines stay as they are."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from telemetry.runtime.tokens import (
    Right,
    Role,
    Token,
    TokensError,
    check_name,
    check_patterns,
    digest_of,
    is_entry,
    new_token,
    read_line,
    read_tokens,
)

_MODE: Final = 0o600


def add_token(
    path: Path,
    name: str,
    role: Role,
    rights: Mapping[Right, Sequence[str]],
    expires: datetime | None = None,
) -> str:
    """Add a token to a file, which is made when it is not there; returns the token, which is kept nowhere.

    From ``expires`` on it is not accepted; ``None`` means never.

    Raises:
        TokensError: if there is one of that name, something given is wrong, or the file cannot be used.
    """
    check_name(name, "NAME")
    for right, patterns in rights.items():
        check_patterns(patterns, f"--{right.value}")
    token = new_token()
    entry = Token(name, digest_of(token), role, rights, expires)

    def added(content: bytes) -> bytes:
        if content and any(each.name == name for each in read_tokens(path)):
            raise TokensError(f"{path} has a token {name!r}; revoke it first, or choose another name")
        return content + (b"" if not content or content.endswith(b"\n") else b"\n") + entry.line()

    _change(path, added)
    return token


def remove_token(path: Path, name: str) -> None:
    """Take a token out of a file.

    Raises:
        TokensError: if there is none of that name, or the file cannot be used.
    """

    def removed(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        left = [line for line in lines if not is_entry(line) or read_line(line, str(path)).name != name]
        if len(left) == len(lines):
            raise TokensError(f"{path} has no token {name!r}")
        return b"".join(left)

    read_tokens(path)
    _change(path, removed)


def _change(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Put a file's new content in place of the old, at once."""
    try:
        with _alone(path.parent):
            content = path.read_bytes() if path.exists() else b""
            mode = path.stat().st_mode & 0o777 if path.exists() else _MODE
            changed = change(content)
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            part = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    os.fchmod(descriptor, mode)
                    file.write(changed)
                    file.flush()
                    os.fsync(descriptor)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise TokensError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No two changes at a time in a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
