"""Times as receivers read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

NO_TIME: Final = "0001-01-01T00:00:00Z"
"""How Alertmanager's webhook writes that there is no time."""


def rfc3339(instant_us: int) -> str:
    """Microseconds since 1970 as RFC 3339."""
    return (_EPOCH + timedelta(microseconds=instant_us)).isoformat().replace("+00:00", "Z")
