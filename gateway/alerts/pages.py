"""Pages of alerts in several states, each of which the service lists on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.alerts.upstream import AlertsClient
from gateway.problems import ParameterError
from telemetry.query.paging import page_token as token_of
from telemetry.query.paging import read_token
from telemetry.runtime.status import InvalidArgumentError
from telemetry.v1 import alerts_pb2

_UNKNOWN: Final = "the page token is not one that was given out for these states"


async def alerts_by_state(
    client: AlertsClient,
    wanted: alerts_pb2.ListAlertsRequest,
    states: Sequence[alerts_pb2.AlertState.ValueType],
    size: int,
    token: str,
) -> alerts_pb2.ListAlertsResponse:
    """A page of alerts, one state after the other.

    Args:
        client: lists those of one state.
        wanted: all other filters.
        states: in this order.
        size: the most to return, at least 1.
        token: of the page before.

    Raises:
        ParameterError: if the token is none of ours.
        UpstreamError: if the service does not answer.
    """
    begin, inner = _read(token, len(states))
    page = alerts_pb2.ListAlertsResponse()
    following = ""
    for place, state in enumerate(states):
        request = alerts_pb2.ListAlertsRequest(state=state, page_size=1)
        request.MergeFrom(wanted)
        left = size - len(page.alerts)
        is_due = place >= begin and not following
        if is_due and left:
            request.page_size, request.page_token = left, inner if place == begin else ""
        part = await client.list_alerts(request)
        page.total += part.total
        if is_due and left:
            page.alerts.extend(part.alerts)
            following = f"{place}.{part.next_page_token}" if part.next_page_token else ""
        elif is_due and part.total:
            following = f"{place}."
    page.next_page_token = token_of(following) if following else ""
    return page


def _read(token: str, states: int) -> tuple[int, str]:
    """Which of so many states comes first, and the service's token for it."""
    if not token:
        return 0, ""
    try:
        place, _, inner = read_token(token).partition(".")
    except InvalidArgumentError as error:
        raise ParameterError("page_token", error.message) from None
    if place not in map(str, range(states)):
        raise ParameterError("page_token", _UNKNOWN)
    return int(place), inner
