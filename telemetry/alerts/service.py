"""The AlertService: answers from the newest snapshot, and passes on what shall change."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

from telemetry import __version__
from telemetry.alerts.alert import Alert, State
from telemetry.alerts.database import AlertDatabase, DatabaseError
from telemetry.alerts.matching import Matcher, match_all
from telemetry.alerts.messages import alert_message, event_message, group_message, silence_message, timestamp
from telemetry.alerts.requests import (
    FILTER_BYTES_MAX,
    PAGE_SIZE_MAX,
    event_filter,
    matchers_of,
    short,
    silence_of,
    silence_states_of,
    states_of,
)
from telemetry.alerts.rules import Group
from telemetry.alerts.runner import Runner
from telemetry.alerts.silences import Silence
from telemetry.query.paging import page, page_size, page_token
from telemetry.runtime.status import UnavailableError
from telemetry.v1 import alerts_pb2, alerts_pb2_grpc

WATCH_ALERTS_MAX: Final = 1_000
"""Most alerts in one answer of WatchAlerts."""


class AlertService(alerts_pb2_grpc.AlertServiceServicer):
    """Serves `telemetry.v1.AlertService`. The methods are named as the RPCs."""

    # ruff: noqa: N802 - names and meaning are the contract's

    def __init__(
        self,
        runner: Runner,
        database: AlertDatabase,
        started_us: int,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        """Answer from these; ``clock`` gives microseconds since 1970, as which ``started_us`` says since when."""
        self._runner = runner
        self._database = database
        self._started_us = started_us
        self._clock = clock

    async def ListAlerts(self, request: alerts_pb2.ListAlertsRequest, context: Any) -> alerts_pb2.ListAlertsResponse:
        states = states_of(request.state)
        matchers = matchers_of(request.matchers, "matchers")
        gpu = short(request.gpu, "gpu", FILTER_BYTES_MAX)
        found = [
            alert
            for alert in self._runner.snapshot.alerts.values()
            if alert.state in states
            and gpu in ("", alert.gpu)
            and (not request.HasField("silenced") or request.silenced == bool(alert.silenced_by))
            and match_all(matchers, alert.labels)
        ]
        found.sort(key=_alert_key)
        chosen, token = page(found, _alert_key, request.page_size, request.page_token, _weight)
        return alerts_pb2.ListAlertsResponse(alerts=map(alert_message, chosen), next_page_token=token, total=len(found))

    async def ListRules(self, request: alerts_pb2.ListRulesRequest, context: Any) -> alerts_pb2.ListRulesResponse:
        snapshot = self._runner.snapshot
        places = {id(group): f"{place:06}" for place, group in enumerate(snapshot.groups)}

        def key(group: Group) -> str:
            return places[id(group)]

        chosen, token = page(snapshot.groups, key, request.page_size, request.page_token, _group_weight, PAGE_SIZE_MAX)
        return alerts_pb2.ListRulesResponse(
            groups=[group_message(group, snapshot) for group in chosen],
            next_page_token=token,
            load_time=timestamp(snapshot.loaded_us),
            load_error=self._runner.load_error,
        )

    async def ListSilences(
        self, request: alerts_pb2.ListSilencesRequest, context: Any
    ) -> alerts_pb2.ListSilencesResponse:
        states, now_us = silence_states_of(request.state), self._clock()
        found = [each for each in self._runner.snapshot.silences if each.state(now_us) in states]
        chosen, token = page(found, _silence_key, request.page_size, request.page_token, _silence_weight, PAGE_SIZE_MAX)
        return alerts_pb2.ListSilencesResponse(
            silences=[self._silence(silence) for silence in chosen], next_page_token=token
        )

    async def CreateSilence(
        self, request: alerts_pb2.CreateSilenceRequest, context: Any
    ) -> alerts_pb2.CreateSilenceResponse:
        silence = await self._runner.create_silence(silence_of(request, self._clock()))
        return alerts_pb2.CreateSilenceResponse(silence=self._silence(silence))

    async def ExpireSilence(
        self, request: alerts_pb2.ExpireSilenceRequest, context: Any
    ) -> alerts_pb2.ExpireSilenceResponse:
        silence = await self._runner.expire_silence(short(request.silence_id, "silence_id", FILTER_BYTES_MAX))
        return alerts_pb2.ExpireSilenceResponse(silence=self._silence(silence))

    async def ListAlertHistory(
        self, request: alerts_pb2.ListAlertHistoryRequest, context: Any
    ) -> alerts_pb2.ListAlertHistoryResponse:
        wanted = event_filter(request)
        size = page_size(request.page_size, PAGE_SIZE_MAX)
        try:
            events = await asyncio.to_thread(self._database.history, wanted, size + 1)
        except DatabaseError as error:
            raise UnavailableError(f"the history cannot be read: {error}") from None
        token = page_token(str(events[size - 1].number)) if len(events) > size else ""
        return alerts_pb2.ListAlertHistoryResponse(events=map(event_message, events[:size]), next_page_token=token)

    async def WatchAlerts(
        self, request: alerts_pb2.WatchAlertsRequest, context: Any
    ) -> AsyncIterator[alerts_pb2.WatchAlertsResponse]:
        matchers = matchers_of(request.matchers, "matchers")
        async with aclosing(self._runner.watchers.watch()) as changes:
            await anext(changes)  # from here on changes wait, so that the snapshot and they leave nothing out
            alerts = [alert for alert in self._runner.snapshot.alerts.values() if alert.state is not State.RESOLVED]
            for answer in _answers(alerts, matchers, snapshot=True):
                yield answer
            async for changed in changes:
                for answer in _answers(changed, matchers, snapshot=False):
                    yield answer

    async def GetStats(
        self, request: alerts_pb2.AlertServiceGetStatsRequest, context: Any
    ) -> alerts_pb2.AlertServiceGetStatsResponse:
        snapshot = self._runner.snapshot
        states = Counter(alert.state for alert in snapshot.alerts.values())
        stats = alerts_pb2.AlertStats(
            version=__version__,
            start_time=timestamp(self._started_us),
            rules=sum(len(group.rules) for group in snapshot.groups),
            pending=states[State.PENDING],
            firing=states[State.FIRING],
        )
        return alerts_pb2.AlertServiceGetStatsResponse(stats=stats)

    def _silence(self, silence: Silence) -> alerts_pb2.Silence:
        return silence_message(silence, self._runner.snapshot.alerts.values(), self._clock())


def _answers(
    alerts: Sequence[Alert], matchers: Sequence[Matcher], *, snapshot: bool
) -> list[alerts_pb2.WatchAlertsResponse]:
    wanted = [alert for alert in alerts if match_all(matchers, alert.labels)]
    answers = [
        alerts_pb2.WatchAlertsResponse(
            snapshot=snapshot, alerts=map(alert_message, wanted[first : first + WATCH_ALERTS_MAX])
        )
        for first in range(0, max(len(wanted), 1 if snapshot else 0), WATCH_ALERTS_MAX)
    ]
    if snapshot:
        answers[-1].snapshot_complete = True
    return answers


def _alert_key(alert: Alert) -> str:
    return f"{alert.name}\x00{alert.fingerprint}"


def _weight(alert: Alert) -> int:
    """Bytes that an alert takes in an answer, about."""
    texts = (*alert.labels.items(), *alert.annotations.items())
    return 200 + sum(len(name) + 4 * len(value) for name, value in texts)


def _group_weight(group: Group) -> int:
    return sum(
        200 + len(rule.expression) + sum(4 * len(text) for text in (*rule.labels.values(), *rule.annotations.values()))
        for rule in group.rules
    )


def _silence_key(silence: Silence) -> str:
    """Sorts those that end last first."""
    return f"{10**18 - silence.end_us:020}{silence.silence_id}"


def _silence_weight(silence: Silence) -> int:
    return 200 + 4 * len(silence.comment) + sum(50 + 4 * len(each.value) for each in silence.matchers)
