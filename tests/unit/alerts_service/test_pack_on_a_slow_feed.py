"""The rule pack over sources that are read once in half a minute or a minute, all at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry.alerts.database import AlertDatabase
from telemetry.alerts.engine import Engine
from telemetry.alerts.evaluate import Evaluator
from telemetry.alerts.process import PACK
from telemetry.alerts.rule_files import load_rules
from telemetry.live import LiveColumn, LiveUpdate
from tests.unit.alerts_service.fakes import MINUTE, SECOND, START

HOST = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]


class Service:
    """The service's engine with the real rules, once a second."""

    def __init__(self, database: AlertDatabase) -> None:
        self.now_us = START
        self.engine = Engine(Evaluator(load_rules([PACK])), database, START)
        self.told: list[str] = []

    def run(self, seconds: int, interval_s: int, gpus: list[str]) -> None:
        """Let GPUs be read so often, one after the other within two seconds."""
        for second in range(seconds):
            self.now_us += SECOND
            heard = gpus[:2] if second % interval_s == 0 else gpus[2:] if second % interval_s == 1 else []
            updates = [(self.now_us, _update(heard, self.now_us))] if heard else []
            outcome = self.engine.tick(updates, self.now_us, {})
            self.told += [f"{event.alert.name} {event.alert.state.value}" for event in outcome.events]


def _update(gpus: list[str], now_us: int) -> LiveUpdate:
    temperature: list[float | None] = [50.0] * len(gpus)
    labels = {gpu: {"uuid": gpu, "host": "node-1", "index": str(HOST.index(gpu))} for gpu in gpus}
    columns = {"temperature": LiveColumn(temperature, temperature, temperature)}
    return LiveUpdate(gpus, [now_us] * len(gpus), columns, labels)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    database = AlertDatabase(tmp_path / "alerts.sqlite")
    yield Service(database)
    database.close()


@pytest.mark.parametrize("interval_s", [30, 60])
def test_a_gpu_that_is_lost_is_told_of_and_a_feed_that_ends_loses_none(service: Service, interval_s: int) -> None:
    service.run(10 * 60, interval_s, HOST)
    assert service.told == []
    service.run(5 * 60, interval_s, HOST[:3])
    assert service.told == ["GpuLost firing"]
    service.run(2 * 60, interval_s, HOST)
    assert service.told[1:] == ["GpuLost resolved"]
    service.run(10 * 60, MINUTE, [])
    assert service.told[2:] == ["TelemetryFeedSilent firing"]
