"""What a request is called: in the log of the process that it came to, and of every service that is called for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from telemetry.runtime.logs import LOG_FIELDS

REQUEST_ID: Final = "x-request-id"
"""The header of HTTP and the metadata of gRPC in which the name travels."""
_FIELD: Final = "request_id"
_GOOD: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)


def is_good(name: str) -> bool:
    """Whether a name that somebody gives may stand in logs and answers."""
    return _GOOD.fullmatch(name) is not None


def call_it(name: str) -> None:
    """Say what the request is called that the current task, and those that it starts, work for."""
    LOG_FIELDS.set({**LOG_FIELDS.get(), _FIELD: name})


def call_as_metadata_says(metadata: Iterable[tuple[str, str | bytes]]) -> None:
    """The same for a gRPC call, if its metadata has a good name."""
    for key, value in metadata:
        if key == REQUEST_ID and isinstance(value, str) and is_good(value):
            call_it(value)


def request_metadata() -> tuple[tuple[str, str], ...] | None:
    """Metadata for a call that is made for the current request; ``None`` when there is no request."""
    name = LOG_FIELDS.get().get(_FIELD)
    return None if name is None else ((REQUEST_ID, str(name)),)
