"""Silences: for which alerts, from when to when, by whom and why notifications are kept back. No I/O."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from telemetry.alerts.matching import Matcher, match_all
from telemetry.runtime.status import NotFoundError, RequestError

SILENCES_MAX: Final = 1_000
"""Most silences that have not ended."""

ENDED_MAX: Final = 10_000
"""Most silences that have ended and are still shown."""

ENDED_US_KEPT: Final = 5 * 86_400 * 1_000_000
"""How long a silence that has ended is shown, in microseconds."""


class SilenceState(enum.Enum):
    """Where a silence is in its life."""

    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"


class TooManySilencesError(RequestError):
    """There is no room for another silence."""

    code = "RESOURCE_EXHAUSTED"


class SilenceEndedError(RequestError):
    """The silence has ended already."""

    code = "FAILED_PRECONDITION"


@dataclass(frozen=True, slots=True)
class Silence:
    """Keeps notifications of alerts back. Times are microseconds since 1970.

    Attributes:
        silence_id: identifies it.
        matchers: an alert is meant when all of them match.
        start_us: from then on.
        end_us: until then.
        author: who made it.
        comment: why.
        created_us: when it was made.
        request_id: by which the client knows it if it asks again; empty means not.
    """

    silence_id: str
    matchers: tuple[Matcher, ...]
    start_us: int
    end_us: int
    author: str
    comment: str
    created_us: int
    request_id: str = ""

    def state(self, now_us: int) -> SilenceState:
        """Where it is in its life."""
        if now_us >= self.end_us:
            return SilenceState.EXPIRED
        return SilenceState.ACTIVE if now_us >= self.start_us else SilenceState.PENDING


class Silences:
    """All silences, and which of them are in effect."""

    def __init__(self, silences: Iterable[Silence] = ()) -> None:
        """Begin with those that were kept; none is in effect before :meth:`advance`."""
        self._silences = {silence.silence_id: silence for silence in silences}
        self._active: dict[str, Silence] | None = None

    def all(self) -> list[Silence]:
        """Every silence, those that end last first."""
        return sorted(self._silences.values(), key=lambda silence: (-silence.end_us, silence.silence_id))

    def find_request(self, request_id: str) -> Silence | None:
        """The silence that a request made; ``None`` when there is none or the identifier is empty."""
        if not request_id:
            return None
        return next((each for each in self._silences.values() if each.request_id == request_id), None)

    def check_room(self, now_us: int) -> None:
        """See that there is room for another.

        Raises:
            TooManySilencesError: there is not.
        """
        count = sum(silence.end_us > now_us for silence in self._silences.values())
        if count >= SILENCES_MAX:
            raise TooManySilencesError(f"{count} silences have not ended; end some of them first")

    def put(self, silence: Silence) -> None:
        """Take in a silence that is new or has changed."""
        self._silences[silence.silence_id] = silence

    def expired(self, silence_id: str, now_us: int) -> Silence:
        """A silence as it is when it ends now; :meth:`put` makes it so.

        Raises:
            NotFoundError: there is none.
            SilenceEndedError: it has ended.
        """
        silence = self._silences.get(silence_id)
        if silence is None:
            raise NotFoundError(f"no silence is called {silence_id!r}", field="silence_id")
        if silence.state(now_us) is SilenceState.EXPIRED:
            raise SilenceEndedError(f"silence {silence_id} has ended already", field="silence_id")
        return replace(silence, start_us=min(silence.start_us, now_us), end_us=now_us)

    def advance(self, now_us: int) -> tuple[list[Silence], bool]:
        """Move on to a time; returns the silences that are in effect since, and whether any is no longer.

        The first time, some may be that nobody knows to have been in effect.
        """
        before = self._active
        active = {key: each for key, each in self._silences.items() if each.start_us <= now_us < each.end_us}
        self._active = active
        begun = [silence for key, silence in active.items() if before is None or key not in before]
        return begun, before is None or any(key not in active for key in before)

    def is_active(self, silence_id: str) -> bool:
        """Whether a silence is in effect."""
        return self._active is not None and silence_id in self._active

    def silenced_by(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The silences in effect that mean an alert with these labels, sorted."""
        active = self._active or {}
        return tuple(sorted(key for key, silence in active.items() if match_all(silence.matchers, labels)))

    def forget(self, now_us: int) -> list[str]:
        """Drop what has ended long ago, and the oldest of too many; returns their identifiers."""
        ended = sorted(
            (silence for silence in self._silences.values() if silence.end_us <= now_us),
            key=lambda silence: silence.end_us,
        )
        surplus = len(ended) - ENDED_MAX
        gone = [
            silence.silence_id
            for place, silence in enumerate(ended)
            if place < surplus or silence.end_us <= now_us - ENDED_US_KEPT
        ]
        for key in gone:
            del self._silences[key]
        return gone
