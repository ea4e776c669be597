"""Requests of the AlertService, checked and put into the terms of this room. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from telemetry.alerts.alert import State
from telemetry.alerts.database import EventFilter
from telemetry.alerts.matching import Comparison, Matcher, check_pattern
from telemetry.alerts.silences import Silence, SilenceState
from telemetry.query.paging import read_token
from telemetry.runtime.status import InvalidArgumentError
from telemetry.v1 import alerts_pb2

PAGE_SIZE_MAX: Final = 1_000
"""Most groups of rules, silences or events on a page."""

MATCHERS_MAX: Final = 20
"""Most matchers of a silence or a request."""

NAME_BYTES_MAX: Final = 200
"""Longest name of a label, and of an author, in bytes."""

VALUE_BYTES_MAX: Final = 1024
"""Longest value or regular expression of a matcher, in bytes."""

COMMENT_BYTES_MAX: Final = 2000
"""Longest comment of a silence, in bytes."""

REQUEST_ID_BYTES_MAX: Final = 128
"""Longest ``request_id``, in bytes."""

FILTER_BYTES_MAX: Final = 1024
"""Longest name or identity that a request asks for, in bytes."""

SILENCE_US_MAX: Final = 366 * 86_400 * 1_000_000
"""Longest silence, in microseconds."""

_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_COMPARISONS: Final = {
    alerts_pb2.LABEL_MATCH_UNSPECIFIED: Comparison.EQUAL,
    alerts_pb2.LABEL_MATCH_EQUAL: Comparison.EQUAL,
    alerts_pb2.LABEL_MATCH_NOT_EQUAL: Comparison.NOT_EQUAL,
    alerts_pb2.LABEL_MATCH_REGEX: Comparison.REGEX,
    alerts_pb2.LABEL_MATCH_NOT_REGEX: Comparison.NOT_REGEX,
}
_STATES: Final = {
    alerts_pb2.ALERT_STATE_UNSPECIFIED: frozenset({State.PENDING, State.FIRING}),
    alerts_pb2.ALERT_STATE_PENDING: frozenset({State.PENDING}),
    alerts_pb2.ALERT_STATE_FIRING: frozenset({State.FIRING}),
    alerts_pb2.ALERT_STATE_RESOLVED: frozenset({State.RESOLVED}),
}
_SILENCE_STATES: Final = {
    alerts_pb2.SILENCE_STATE_UNSPECIFIED: frozenset(SilenceState),
    alerts_pb2.SILENCE_STATE_PENDING: frozenset({SilenceState.PENDING}),
    alerts_pb2.SILENCE_STATE_ACTIVE: frozenset({SilenceState.ACTIVE}),
    alerts_pb2.SILENCE_STATE_EXPIRED: frozenset({SilenceState.EXPIRED}),
}


def states_of(value: int) -> frozenset[State]:
    """The states that a request asks for."""
    if value not in _STATES:
        raise InvalidArgumentError(f"{value} is no AlertState", field="state")
    return _STATES[value]  # type: ignore[index]


def silence_states_of(value: int) -> frozenset[SilenceState]:
    """The states that a request asks for."""
    if value not in _SILENCE_STATES:
        raise InvalidArgumentError(f"{value} is no SilenceState", field="state")
    return _SILENCE_STATES[value]  # type: ignore[index]


def matchers_of(matchers: Sequence[alerts_pb2.LabelMatcher], field: str) -> tuple[Matcher, ...]:
    """Matchers.

    Raises:
        InvalidArgumentError: if one is wrong or there are too many.
    """
    if len(matchers) > MATCHERS_MAX:
        raise InvalidArgumentError(f"{len(matchers)} matchers are too many; at most {MATCHERS_MAX}", field=field)
    return tuple(_matcher(matcher, f"{field}[{place}]") for place, matcher in enumerate(matchers))


def silence_of(request: alerts_pb2.CreateSilenceRequest, now_us: int) -> Silence:
    """The silence that is asked for; its identifier and time of making are the server's to choose.

    Raises:
        InvalidArgumentError: if a field is wrong.
    """
    asked = request.silence
    matchers = matchers_of(asked.matchers, "silence.matchers")
    if not any(not matcher.matches({}) for matcher in matchers):
        raise InvalidArgumentError(
            "a silence needs a matcher that an empty value does not match, or it would mean every alert",
            field="silence.matchers",
        )
    start_us = micros(asked.start_time, "silence.start_time") if asked.HasField("start_time") else now_us
    if not asked.HasField("end_time"):
        raise InvalidArgumentError("silence.end_time is required", field="silence.end_time")
    end_us = micros(asked.end_time, "silence.end_time")
    if end_us <= max(start_us, now_us):
        raise InvalidArgumentError("a silence must end after it begins, and after now", field="silence.end_time")
    if end_us - start_us > SILENCE_US_MAX:
        raise InvalidArgumentError("a silence may last 366 days", field="silence.end_time")
    return Silence(
        silence_id="",
        matchers=matchers,
        start_us=start_us,
        end_us=end_us,
        author=_required(asked.author, "silence.author", NAME_BYTES_MAX),
        comment=_required(asked.comment, "silence.comment", COMMENT_BYTES_MAX),
        created_us=now_us,
        request_id=short(request.request_id, "request_id", REQUEST_ID_BYTES_MAX),
    )


def event_filter(request: alerts_pb2.ListAlertHistoryRequest) -> EventFilter:
    """Which events are asked for, the page aside.

    Raises:
        InvalidArgumentError: if a field is wrong.
    """
    start_us = micros(request.start_time, "start_time") if request.HasField("start_time") else None
    end_us = micros(request.end_time, "end_time") if request.HasField("end_time") else None
    if start_us is not None and end_us is not None and start_us > end_us:
        raise InvalidArgumentError("start_time is after end_time", field="start_time")
    return EventFilter(
        start_us,
        end_us,
        short(request.alert, "alert", FILTER_BYTES_MAX),
        short(request.gpu, "gpu", FILTER_BYTES_MAX),
        short(request.fingerprint, "fingerprint", FILTER_BYTES_MAX),
        _event_number(request.page_token),
    )


def micros(time: Timestamp, field: str) -> int:
    """A time in microseconds since 1970.

    Raises:
        InvalidArgumentError: if it is not a time.
    """
    if not 0 <= time.nanos < 1_000_000_000 or not -62_135_596_800 <= time.seconds < 253_402_300_800:
        raise InvalidArgumentError(f"{field} is not a time", field=field)
    return time.ToMicroseconds()


def short(text: str, field: str, most: int) -> str:
    """A text of at most so many bytes.

    Raises:
        InvalidArgumentError: if it has more.
    """
    size = len(text.encode())
    if size > most:
        raise InvalidArgumentError(f"{field} has {size} bytes; it may have {most}", field=field)
    return text


def _matcher(matcher: alerts_pb2.LabelMatcher, field: str) -> Matcher:
    name = short(matcher.name, f"{field}.name", NAME_BYTES_MAX)
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(f"{name!r} is not the name of a label", field=f"{field}.name")
    if matcher.match not in _COMPARISONS:
        raise InvalidArgumentError(f"{matcher.match} is no LabelMatch", field=f"{field}.match")
    comparison = _COMPARISONS[matcher.match]
    value = short(matcher.value, f"{field}.value", VALUE_BYTES_MAX)
    if comparison in (Comparison.REGEX, Comparison.NOT_REGEX):
        try:
            check_pattern(value)
        except ValueError as error:
            raise InvalidArgumentError(f"{value!r} is no regular expression: {error}", field=f"{field}.value") from None
    return Matcher(name, comparison, value)


def _required(text: str, field: str, most: int) -> str:
    if not text.strip():
        raise InvalidArgumentError(f"{field} is required", field=field)
    return short(text, field, most)


def _event_number(token: str) -> int | None:
    """The event before a page of the history; ``None`` for the first page."""
    if not token:
        return None
    number = read_token(token)
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise InvalidArgumentError("the page token is not one that was given out", field="page_token")
    return int(number)
