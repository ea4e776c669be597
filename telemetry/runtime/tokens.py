"""Tokens: who may do what, by a secret of which the server keeps only the hash."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, IntEnum
from hmac import compare_digest
from pathlib import Path
from stat import S_IWOTH
from time import monotonic
from typing import Any, Final, NamedTuple

import orjson

from telemetry.runtime.errors import StartupError
from telemetry.runtime.watched import Watched

TOKENS_MAX: Final = 10_000
"""Most tokens in a file."""
FILE_BYTES_MAX: Final = 16 << 20
"""Largest file with tokens."""
PATTERNS_MAX: Final = 100
"""Most patterns for one right of a token."""
_SECRET_BYTES: Final = 32
_PREFIX: Final = "tlm_"
"""What tokens begin with, so that scanners of leaked secrets can know them."""
_PRESENTED_MAX: Final = 512

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,100}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PATTERN = re.compile(r"([a-z0-9_-]+|\*)(\.([a-z0-9_-]+|\*))*(\.>)?|>")
_PATTERN_BYTES_MAX: Final = 200


class Role(IntEnum):
    """What somebody may do beside publishing and subscribing; each role includes those before it."""

    NONE = 0
    VIEW = 1
    """See records, alerts, statistics, metrics."""
    OPERATE = 2
    """Silence alerts, replay dead letters, move a group."""
    ADMIN = 3
    """Create, change, purge and delete topics and groups, discard dead letters."""

    @property
    def label(self) -> str:
        """As it is written in files and texts."""
        return self.name.lower()


class Right(Enum):
    """What somebody may do with a topic."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"
    ADMIN = "admin"


class TokensError(StartupError):
    """The file with tokens cannot be used. The text names file, line and field."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a line of the file says.

    Attributes:
        name: whose it is, for people and logs.
        sha256: the hash of the token, in hexadecimal. The token is 256 random bits, so that nothing slower is needed.
        role: what its bearer may do beside the topics.
        rights: patterns of topics for each right.
        expires: from when on it is not accepted; ``None`` means never.
    """

    name: str
    sha256: str = field(repr=False)
    role: Role = Role.NONE
    rights: Mapping[Right, Sequence[str]] = field(default_factory=dict)
    expires: datetime | None = None

    @property
    def has_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and datetime.now(UTC) >= self.expires

    def may(self, right: Right, topic: str) -> bool:
        """Whether this token gives a right on a topic, or on all topics that a pattern stands for."""
        patterns = self.rights.get(right, ())
        return topic in patterns or any(covers(pattern, topic) for pattern in patterns)

    def line(self) -> bytes:
        """As it stands in the file."""
        said: dict[str, Any] = {"name": self.name, "sha256": self.sha256}
        if self.role is not Role.NONE:
            said["role"] = self.role.label
        if self.expires is not None:
            said["expires"] = self.expires
        said.update({right.value: list(patterns) for right, patterns in self.rights.items() if patterns})
        return orjson.dumps(said, option=orjson.OPT_UTC_Z) + b"\n"


class NotAccepted(NamedTuple):
    """Why a token is not accepted: for counting, and for whoever has shown it."""

    reason: str
    text: str


CALLER: Final[ContextVar[Token | None]] = ContextVar("CALLER", default=None)
"""Who makes the call that is being answered; ``None`` when the process has no tokens, so that everybody may all."""


def covers(pattern: str, topic: str) -> bool:
    """Whether ``pattern`` stands for ``topic``, or for all that it stands for when that is a pattern, too.

    The language is that of subscriptions: ``*`` for one part, ``>`` at the end for one or more. But here wildcards take
    in dead-letter topics: what is in those was in the others before.
    """
    wanted, parts = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(parts) <= len(wanted):
            return False
        parts = parts[: len(wanted)]
    if len(wanted) != len(parts):
        return False
    return all(part != ">" and want in ("*", part) for want, part in zip(wanted, parts, strict=True))


def new_token() -> str:
    """256 random bits as text."""
    return _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def digest_of(token: str) -> str:
    """The hash that is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """The tokens that a process accepts, read anew when their file changes."""

    def __init__(self, path: Path, clock: Callable[[], float] = monotonic) -> None:
        """Read the file.

        Raises:
            TokensError: if it cannot be used.
        """
        self._table = Watched([path], lambda: {token.sha256: token for token in read_tokens(path)}, clock)

    def bearer(self, header: str) -> Token | None:
        """Whose token an ``Authorization`` header holds; ``None`` when it holds none that is accepted."""
        return self.find(_of_bearer(header))

    def find(self, token: str) -> Token | None:
        """Whose token this is; ``None`` when it is not accepted."""
        found = self._known(token)
        return None if found is None or found.has_expired else found

    def why_not(self, token: str = "", *, header: str = "") -> NotAccepted:
        """Why a token, or that of an ``Authorization`` header, is not accepted."""
        found = self._known(token or _of_bearer(header))
        if found is None or found.expires is None:
            return NotAccepted("token", "the token is not accepted: it is wrong, or was revoked")
        return NotAccepted("expired", f"the token {found.name} has expired, at {found.expires:%Y-%m-%dT%H:%M:%SZ}")

    def _known(self, token: str) -> Token | None:
        if not token or len(token) > _PRESENTED_MAX:
            return None
        # Nobody can steer where the hash of a guess falls, so looking it up gives nothing away about other hashes.
        digest = digest_of(token)
        found = self._table.current().get(digest)
        return found if found is not None and compare_digest(found.sha256, digest) else None

    def stands(self, token: Token) -> bool:
        """Whether a token is in the file still, with the same rights, and has not expired."""
        return not token.has_expired and self._table.current().get(token.sha256) == token


def _of_bearer(header: str) -> str:
    """The token in an ``Authorization`` header; empty when it has another scheme."""
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def read_tokens(path: Path) -> list[Token]:
    """The tokens in a file: a JSON object a line; empty lines and those that begin with # say nothing.

    Raises:
        TokensError: naming file, line and field.
    """
    try:
        if path.stat().st_mode & S_IWOTH:
            raise TokensError(f"--tokens {path} can be written by everybody on this machine; `chmod o-w {path}`")
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise TokensError(
            f"--tokens {path} cannot be read: {error.strerror}; `telemetry token create NAME --tokens {path}` makes one"
        ) from None
    if len(content) > FILE_BYTES_MAX:
        raise TokensError(f"--tokens {path} has more than {FILE_BYTES_MAX} bytes")
    tokens: dict[str, Token] = {}
    digests: set[str] = set()
    for number, line in enumerate(content.split(b"\n"), 1):
        if is_entry(line):
            token = read_line(line, f"{path}, line {number}")
            if token.name in tokens or token.sha256 in digests:
                raise TokensError(f"{path}, line {number}: there is a token {token.name!r} before, or one of its hash")
            tokens[token.name] = token
            digests.add(token.sha256)
    if len(tokens) > TOKENS_MAX:
        raise TokensError(f"{path} has more than {TOKENS_MAX} tokens")
    return list(tokens.values())


def is_entry(line: bytes) -> bool:
    """Whether a line of the file says anything."""
    return bool(line.strip()) and not line.lstrip().startswith(b"#")


def read_line(line: bytes, where: str) -> Token:
    """One line of the file.

    Raises:
        TokensError: saying ``where``, and what is wrong.
    """
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise TokensError(f"{where}: this is not JSON: {error}") from None
    if not isinstance(said, dict):
        raise TokensError(f'{where}: a token is a JSON object, such as {{"name": …, "sha256": …}}')
    name, digest, role = said.pop("name", None), said.pop("sha256", None), said.pop("role", "none")
    check_name(name, where)
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise TokensError(f"{where}: sha256 has to be 64 digits 0-9 a-f; `telemetry token create` makes them")
    if not isinstance(role, str) or role.upper() not in Role.__members__:
        allowed = ", ".join(each.label for each in Role)
        raise TokensError(f"{where}: role has to be one of {allowed}")
    rights = {right: tuple(check_patterns(said.pop(right.value, []), f"{where}: {right.value}")) for right in Right}
    expires = _read_expires(said.pop("expires", None), where)
    if said:
        raise TokensError(f"{where}: nothing is called {next(iter(said))!r} here")
    return Token(name, digest, Role[role.upper()], rights, expires)


def _read_expires(said: object, where: str) -> datetime | None:
    if said is None:
        return None
    try:
        expires = datetime.fromisoformat(str(said))
        if expires.tzinfo is not None:
            return expires.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise TokensError(f"{where}: expires has to be a time such as 2027-01-31T00:00:00Z, or be left out for never")


def check_name(name: object, where: str) -> None:
    """See that a token can be called so.

    Raises:
        TokensError: if not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise TokensError(f"{where}: name has to be 1 to 100 of A-Z, a-z, 0-9, '.', _, @ and -")


def check_patterns(patterns: object, where: str) -> list[str]:
    """See that these are names or patterns of topics.

    Raises:
        TokensError: if not.
    """
    if not isinstance(patterns, list | tuple) or len(patterns) > PATTERNS_MAX:
        raise TokensError(f"{where} has to be a list of at most {PATTERNS_MAX} topics or patterns")
    for pattern in patterns:
        if not isinstance(pattern, str) or len(pattern) > _PATTERN_BYTES_MAX or not _PATTERN.fullmatch(pattern):
            raise TokensError(
                f"{where}: {str(pattern)[:_PATTERN_BYTES_MAX]!r} is neither a topic nor a pattern: parts of a-z, 0-9, "
                "_ and - with dots between them, * for one part, > at the end for one or more"
            )
    return list(patterns)
