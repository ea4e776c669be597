"""`telemetry alerts serve` as a process behind a real queue and collector: from a sample to whoever is told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, encode_arrow, frame_of
from telemetry.model import Record
from telemetry.queue.client import Publisher
from telemetry.queue.server import QueueServer
from telemetry.topics import DATA_TOPIC
from telemetry.v1 import alerts_pb2
from telemetry.v1.alerts_pb2_grpc import AlertServiceStub
from tests.integration.test_collector_pipeline import collecting, queue
from tests.unit.alerts_service.receiver import Receiver, receiver

WAIT_S = 60.0
RULES = """\
groups:
  - name: heat
    interval: 1s
    rules:
      - alert: Hot
        expr: DCGM_FI_DEV_GPU_TEMP > 90
        labels: {severity: critical}
        annotations: {summary: "GPU {{ $labels.gpu }} of {{ $labels.Hostname }} has {{ $value }} degrees"}
"""


class Fleet:
    """GPUs `a` and `b`, which say how hot they are ten times a second."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.temperatures = {"a": 50.0, "b": 50.0}

    async def run(self) -> None:
        attributes = {CONTENT_TYPE: ARROW_CONTENT_TYPE}
        async with Publisher(self.address) as publisher:
            while True:
                for place, (gpu, temperature) in enumerate(self.temperatures.items()):
                    labels = {"host": "node-1", "index": str(place)}
                    record = Record(datetime.now(UTC), gpu, {"temperature": temperature}, labels)
                    data = encode_arrow(frame_of([record]))
                    await publisher.publish(DATA_TOPIC, data, attributes, ordering_key=gpu)
                await asyncio.sleep(0.1)


class Alerts:
    """The process; it can be killed and started again on the same state."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.arguments = folder, arguments
        self.rules = folder / "heat.yaml"
        self.rules.write_text(RULES)
        self.log: list[dict[str, Any]] = []

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "telemetry", "alerts", "serve", "--rules", str(self.rules)),
            *("--data-dir", str(self.folder / "data"), "--grpc-port", "0", "--http-port", "0", *self.arguments),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "TELEMETRY_CONFIG": ""},
        )
        self.reading = asyncio.create_task(self._read())
        ready = await self.logged(lambda line: line["message"] == "ready")
        self.grpc_port, self.http_port = ready["grpc"], ready["http"]

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(json.loads(line))

    async def logged(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first line of the log since the start that is wanted."""

        async def found() -> dict[str, Any] | None:
            assert self.process.returncode is None or any(map(wanted, self.log)), self.log
            return next(filter(wanted, self.log), None)

        line: dict[str, Any] = await until(found)
        return line

    async def end(self, number: signal.Signals) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(WAIT_S):
            code = await self.process.wait()
            await self.reading
        self.log.clear()
        return code

    async def get(self, path: str) -> Any:
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{self.http_port}{path}")).json()

    async def alerts(self) -> dict[str, str]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.grpc_port}") as channel:
            stub: Any = AlertServiceStub(channel)
            answer = await stub.ListAlerts(alerts_pb2.ListAlertsRequest(), timeout=10, wait_for_ready=True)
        return {each.gpu: each.annotations["summary"] for each in answer.alerts}


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Wait for what no event announces; returns what was waited for."""
    async with asyncio.timeout(WAIT_S):
        while not (found := await condition()):
            await asyncio.sleep(0.05)
    return found


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[None]:
    task = asyncio.create_task(fleet.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[QueueServer]:
    async with queue() as made:
        yield made


@pytest.fixture
async def fleet(server: QueueServer, tmp_path: Path) -> AsyncIterator[Fleet]:
    """GPUs whose samples go through a queue and a collector."""
    made = Fleet(f"127.0.0.1:{server.grpc_port}")
    async with collecting(tmp_path / "store", made.address), running(made):
        yield made


@pytest.fixture
async def pager() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
async def alerts(tmp_path: Path, fleet: Fleet, pager: Receiver) -> AsyncIterator[Alerts]:
    made = Alerts(tmp_path, "--queue", fleet.address, "--webhook", pager.url())
    await made.start()
    yield made
    await made.end(signal.SIGKILL)


def told(pager: Receiver) -> list[str]:
    return [f"{each['labels']['UUID']} {each['status']}" for body in pager.got for each in body["alerts"]]


async def test_a_hot_gpu_is_told_of_once_though_the_process_is_killed_and_taken_back_when_it_cools(
    alerts: Alerts, fleet: Fleet, pager: Receiver
) -> None:
    fleet.temperatures["b"] = 95.0
    (body,) = await pager.wait(1)
    assert body["alerts"][0]["annotations"]["summary"] == "GPU 1 of node-1 has 95 degrees"
    assert await alerts.alerts() == {"b": "GPU 1 of node-1 has 95 degrees"}

    async def kept() -> bool:  # how far the webhook has been told is written with the next evaluation
        return all(each["waiting"] == 0 for each in (await alerts.get("/stats"))["receivers"])

    await until(kept)
    evaluated = (await alerts.get("/stats"))["evaluated"]

    async def later() -> bool:
        return bool((await alerts.get("/stats"))["evaluated"] > evaluated)

    await until(later)
    await alerts.end(signal.SIGKILL)
    await alerts.start()
    assert list(await alerts.alerts()) == ["b"]

    async def heard() -> bool:
        return (await alerts.get("/stats"))["feed_silent"] is False

    await until(heard)
    fleet.temperatures = {"a": 96.0, "b": 50.0}
    await pager.wait(3)
    assert sorted(told(pager)) == ["a firing", "b firing", "b resolved"]
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://127.0.0.1:{alerts.http_port}/metrics")).text
    assert f'telemetry_alerts_notification_delay_seconds_count{{receiver="{pager.url()}"}}' in metrics
    assert await alerts.end(signal.SIGTERM) == 0


async def test_bad_rules_are_named_and_the_old_ones_go_on_by_signal_and_by_http(
    alerts: Alerts, fleet: Fleet, pager: Receiver
) -> None:
    alerts.rules.write_text(RULES.replace("DCGM_FI_DEV_GPU_TEMP > 90", "holt_winters(DCGM_FI_DEV_GPU_TEMP[5m], 0, 0)"))
    alerts.process.send_signal(signal.SIGHUP)
    line = await alerts.logged(lambda line: "not loaded" in line["message"])
    assert "heat.yaml:6: " in line["error"]
    check = (await alerts.get("/health"))["checks"]["rules"]
    assert (check["ok"], "heat.yaml:6: " in check["detail"]) == (False, True)
    fleet.temperatures["a"] = 95.0
    await pager.wait(1)
    assert told(pager) == ["a firing"]
    alerts.rules.write_text(RULES.replace("> 90", "> 97"))
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{alerts.http_port}/-/reload")
        assert (answer.status_code, answer.json()["rules"]) == (200, 1)
    await pager.wait(2)
    assert told(pager) == ["a firing", "a resolved"]


async def test_a_queue_that_is_away_resolves_nothing(tmp_path: Path, pager: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    alerts = Alerts(tmp_path, "--queue", f"127.0.0.1:{port}", "--webhook", pager.url())
    fleet = Fleet(f"127.0.0.1:{port}")
    fleet.temperatures["a"] = 95.0
    try:
        async with queue(port), collecting(tmp_path / "store", fleet.address), running(fleet):
            await alerts.start()
            await pager.wait(1)

        async def noticed() -> bool:
            return (await alerts.get("/health"))["checks"]["queue"]["ok"] is False

        await until(noticed)
        assert list(await alerts.alerts()) == ["a"]
        async with queue(port), collecting(tmp_path / "store", fleet.address), running(fleet):
            fleet.temperatures = {"a": 95.0, "b": 95.0}
            await pager.wait(2)
            assert told(pager) == ["a firing", "b firing"]
    finally:
        await alerts.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rules", "{folder}/bad.yaml"], "telemetry-alerts: {folder}/bad.yaml:3: "),
        (["--rules", "{folder}/none.yaml"], "telemetry-alerts: {folder}/none.yaml: No such file or directory"),
        (["--alertmanager", "am:9093"], "telemetry-alerts: --alertmanager is no address"),
        (["--host", "0.0.0.0"], "telemetry-alerts: --host 0.0.0.0 lets other machines connect"),
    ],
)
async def test_a_start_that_cannot_be_is_one_sentence(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "bad.yaml").write_text("groups:\n- name: g\n  rules: {alert: Hot}\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telemetry", "alerts", "serve", "--data-dir", str(tmp_path / "data")),
        *(each.format(folder=tmp_path) for each in arguments),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WAIT_S):
        _, output = await process.communicate()
    lines = output.decode().splitlines()
    assert (process.returncode, len(lines)) == (1, 1), lines
    assert lines[0].startswith(said.format(folder=tmp_path))
