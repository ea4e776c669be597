"""What alerts cost and how soon they come: CPU of 1,000 rules over 10,000 GPUs, and from a sample to whoever is told.

The cost is that of the whole tick: live updates decoded and taken in, rules evaluated, alerts advanced and kept; in
this process, at a simulated clock, after as much past as the rules look at. Its floor is the decoding alone. The delay
is that of real processes (queue, collector, alerts) on an otherwise idle machine: from the moment at which a sample is
published to the webhook's hearing of it.

    python -m benchmarks.alerts --rules 1000 --gpus 10000 --delays 20
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from telemetry.alerts.database import AlertDatabase
from telemetry.alerts.engine import Engine
from telemetry.alerts.evaluate import Evaluator
from telemetry.alerts.feed import read_updates
from telemetry.alerts.rule_files import parse_rules
from telemetry.codec import ARROW_CONTENT_TYPE, CONTENT_TYPE, encode_arrow, frame_of
from telemetry.live import LiveColumn, LiveUpdate
from telemetry.model import Record
from telemetry.queue.client import Publisher
from telemetry.runtime.http import HttpServer
from telemetry.topics import DATA_TOPIC

SECOND: Final = 1_000_000
START: Final = 1_700_000_000 * SECOND
GPUS_IN_MESSAGE: Final = 2000
PAST_S: Final = 300
"""As far as the rules look back."""
TICKS: Final = 20
"""Evaluations that are measured."""
WAIT_S_MAX: Final = 60.0

METRICS: Final = (
    "temperature", "utilization", "memory_used", "memory_free", "memory_total", "power_draw", "sm_clock",
    "memory_clock", "memory_utilization", "memory_temperature", "energy", "pcie_replays",
)  # fmt: skip
KINDS: Final = (
    "DCGM_FI_DEV_GPU_TEMP > {high}",
    "DCGM_FI_DEV_POWER_USAGE > {high} * 10",
    "DCGM_FI_DEV_GPU_UTIL < {low} and DCGM_FI_DEV_FB_USED > {high}000",
    "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE) > 0.9{high}",
    'DCGM_FI_DEV_GPU_TEMP{{Hostname=~"node-{low}.*"}} > {high}',
    "avg_over_time(DCGM_FI_DEV_GPU_UTIL[5m]) < 0.{low}",
    "max_over_time(DCGM_FI_DEV_GPU_TEMP[1m]) > {high}",
    "DCGM_FI_DEV_GPU_TEMP - on (Hostname) group_left () quantile by (Hostname) (0.5, DCGM_FI_DEV_GPU_TEMP) > {high}",
    "avg by (Hostname) (DCGM_FI_DEV_POWER_USAGE) > {high} * 10",
    "rate(DCGM_FI_DEV_PCIE_REPLAY_COUNTER[5m]) > {high}",
)
"""Every kind of rule that fleets have; thresholds differ from rule to rule, as those of many teams do."""
WEBHOOK_RULES: Final = """
groups:
  - name: heat
    interval: 1s
    rules: [{alert: Hot, expr: DCGM_FI_DEV_GPU_TEMP > 90}]
"""


def many_rules(count: int) -> str:
    """A file of ``count`` rules, no two alike; none is true."""
    rules = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)].format(high=1000 + number // len(KINDS), low=number // len(KINDS) % 90 + 10)
        rules.append({"alert": f"Rule{number}", "expr": kind, "labels": {"team": f"team-{number % 40}"}})
    groups = [
        {"name": f"group-{first}", "interval": "1s", "rules": rules[first : first + 25]}
        for first in range(0, count, 25)
    ]
    return json.dumps({"groups": groups})


def updates_of(gpus: int, now_us: int, chance: random.Random, *, labels: bool) -> list[tuple[int, bytes]]:
    """What a collector publishes in one second."""
    messages = []
    for first in range(0, gpus, GPUS_IN_MESSAGE):
        names = [f"GPU-{number:08x}" for number in range(first, min(first + GPUS_IN_MESSAGE, gpus))]
        columns = {}
        for metric in METRICS:
            values: list[float | None] = [round(50 + 40 * chance.random(), 1) for _ in names]
            columns[metric] = LiveColumn(values, values, values)
        said = {
            gpu: {"host": f"node-{(first + place) // 8}", "index": str(place % 8), "model": "NVIDIA H100 80GB HBM3"}
            for place, gpu in enumerate(names)
        }
        update = LiveUpdate(names, [now_us] * len(names), columns, said if labels else {})
        messages.append((now_us, update.encode()))
    return messages


def cost(rules: int, gpus: int) -> None:
    """Print the CPU that a second of evaluation takes."""
    chance = random.Random(7)
    began = time.process_time()
    evaluator = Evaluator(parse_rules([("bench.yaml", many_rules(rules))]))
    print(f"rules loaded            {rules} in {time.process_time() - began:.2f} s")
    seconds = [updates_of(gpus, 0, chance, labels=False) for _ in range(5)]
    with tempfile.TemporaryDirectory() as folder:
        database = AlertDatabase(Path(folder) / "alerts.sqlite")
        engine = Engine(evaluator, database, START)
        for _, update in read_updates(updates_of(gpus, START, chance, labels=True)):
            evaluator.ingest(update, START)
        for second in range(1, PAST_S):
            for update in stamped(seconds[second % 5], START + second * SECOND):
                evaluator.ingest(update, START + second * SECOND)
        now_us = START + PAST_S * SECOND
        floor = ticked = 0.0
        worst = 0.0
        for number in range(TICKS + 2):
            messages = seconds[number % 5]
            begun = time.process_time()
            read_updates(messages)
            decoded = time.process_time() - begun
            taken = [(now_us, update) for update in stamped(messages, now_us)]
            begun = time.process_time()
            outcome = engine.tick(taken, now_us, {})
            took = time.process_time() - begun
            if number >= 2:  # the first make room for the rest
                floor, ticked, worst = floor + decoded, ticked + took, max(worst, took + decoded)
            now_us += SECOND
        failing = [health.error for health in outcome.snapshot.health.values() if health.error]
        database.close()
    total, decoding = (floor + ticked) / TICKS, floor / TICKS
    evaluated = sum(health.at_us == outcome.snapshot.at_us for health in outcome.snapshot.health.values())
    print(f"a second of evaluation  {total * 1e3:.0f} ms CPU, {total:.0%} of a core (aim: 50 %), worst {worst:.3f} s")
    print(f"  of it decoding        {decoding * 1e3:.0f} ms; the whole is {total / decoding:.1f} × that")
    print(f"  rules evaluated       {evaluated}, {len(failing)} of them in vain")
    print(f"memory                  {psutil.Process().memory_info().rss / 1e6:.0f} MB")


def stamped(messages: list[tuple[int, bytes]], now_us: int) -> list[LiveUpdate]:
    """The same values, taken at another time."""
    return [
        LiveUpdate(update.gpus, [now_us] * len(update.gpus), update.columns, update.labels)
        for _, update in read_updates(messages)
    ]


class Pager:
    """A webhook that takes the time."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, str, float]] = asyncio.Queue()

    async def handle(self, request: Request) -> Response:
        now = time.time()
        for each in (await request.json())["alerts"]:
            self.heard.put_nowait((each["labels"]["UUID"], each["status"], now))
        return Response()

    async def wait(self, gpu: str, status: str) -> float:
        """When a GPU was told of."""
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                name, said, now = await self.heard.get()
                if (name, said) == (gpu, status):
                    return now


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[dict[str, int]]:
    """One of our processes; gives the ports that its log says it has."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telemetry", *arguments, "--log-level", "info"), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    ports: dict[str, int] = {}
    async with asyncio.timeout(WAIT_S_MAX):
        async for line in process.stderr:
            fields = json.loads(line)
            if fields["message"] == "ready":
                ports = {name: fields[name] for name in ("grpc", "http")}
                break
    draining = asyncio.create_task(process.stderr.read())
    try:
        yield ports
    finally:
        process.terminate()
        await process.wait()
        await draining


async def delays(count: int) -> None:
    """Print how long it took from a sample to the webhook."""
    pager, chance = Pager(), random.Random(7)
    app = Starlette(routes=[Route("/hook", pager.handle, methods=["POST"])])
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "rules.yaml").write_text(WEBHOOK_RULES)
        hook = await stack.enter_async_context(HttpServer(app, "127.0.0.1", {"port": 0}))
        anywhere = ("--grpc-port", "0")
        queue = await stack.enter_async_context(
            program("queue", "--data-dir", str(folder / "queue"), *anywhere, "--http-port", "0")
        )
        address = f"127.0.0.1:{queue['grpc']}"
        await stack.enter_async_context(
            program(
                "collector", "--queue", address, "--data-dir", str(folder / "store"), *anywhere, "--health-port", "0"
            )
        )
        where = ("--queue", address, "--data-dir", str(folder / "alerts"), "--http-port", "0", *anywhere)
        told = ("--rules", str(folder / "rules.yaml"), "--webhook", f"http://127.0.0.1:{hook.ports[0]}/hook")
        await stack.enter_async_context(program("alerts", "serve", *where, *told))
        publisher = await stack.enter_async_context(Publisher(address))
        took: list[float] = []
        for number in range(-1, count):
            gpu = f"GPU-{number + 1}"
            for temperature, status in ((50.0, ""), (95.0, "firing"), (50.0, "resolved")):
                began = time.time()
                record = Record(datetime.now(UTC), gpu, {"temperature": temperature}, {"host": "n", "index": "0"})
                attributes = {CONTENT_TYPE: ARROW_CONTENT_TYPE}
                await publisher.publish(DATA_TOPIC, encode_arrow(frame_of([record])), attributes, ordering_key=gpu)
                if status:
                    heard = await pager.wait(gpu, status)
                    if number >= 0:  # the first waits until all have found each other
                        took.append(heard - began)
                await asyncio.sleep(1.2 + chance.random())
    took.sort()
    p95 = took[min(int(len(took) * 0.95), len(took) - 1)]
    print(
        f"sample to webhook       median {statistics.median(took):.2f} s, p95 {p95:.2f} s, worst {took[-1]:.2f} s"
        f" of {len(took)} (aim: below 2 s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=10_000)
    parser.add_argument("--delays", type=int, default=20, help="GPUs that become hot and cool again; 0 leaves it out")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, {arguments.gpus} GPUs")
    if arguments.rules:
        cost(arguments.rules, arguments.gpus)
    if arguments.delays:
        asyncio.run(delays(arguments.delays))


if __name__ == "__main__":
    main()
