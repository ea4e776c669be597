"""The pipeline as processes: which programs run, on which ports, and how each is asked for its health."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from telemetry.runtime.errors import PortInUseError, StartupError
from telemetry.supervisor.watch import Health, Probe, ProcessSpec

HOST: Final = "127.0.0.1"
PROBE_S_MAX: Final = 2.0


@dataclass(slots=True)
class Ports:
    """Where the processes listen; 0 means any free port."""

    dashboard_port: int = 8080
    api_port: int = 8081
    queue_http_port: int = 9090
    queue_port: int = 9091
    collector_port: int = 9092
    collector_http_port: int = 8082
    streamer_http_port: int = 9093
    alerts_port: int = 9094
    alerts_http_port: int = 9095

    def claim(self) -> None:
        """Choose free ports for zeros, and see that nobody listens on the others.

        Raises:
            PortInUseError: naming the address and the flag.
        """
        held = []
        for entry in fields(self):
            probe = socket.socket()
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.append(probe)
            try:
                probe.bind((HOST, getattr(self, entry.name)))
                probe.listen(1)
            except OSError:
                flag = f"--{entry.name.replace('_', '-')}"
                raise PortInUseError(f"{HOST}:{getattr(self, entry.name)}", flag) from None
            setattr(self, entry.name, probe.getsockname()[1])
        for probe in held:
            probe.close()


@dataclass(frozen=True, slots=True)
class Replay:
    """What the streamer reads, and how.

    Attributes:
        files: CSV files.
        once: whether to stop after one pass, which keeps the files' own times; else the files are replayed for ever,
            stamped with the time of the replay.
        rate: rows a second and worker; 0 means as fast as it goes.
        workers: workers of the streamer.
    """

    files: Sequence[Path]
    once: bool
    rate: float
    workers: int


def pipeline(ports: Ports, replay: Replay, data_folder: Path, fsync: str, log_level: str) -> list[ProcessSpec]:
    """The five processes, in the order in which they are to be stopped: from where the data comes to where it goes."""
    queue_address = f"{HOST}:{ports.queue_port}"

    def program(name: str, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "telemetry", name, *map(str, arguments), "--log-level", log_level]

    return [
        ProcessSpec(
            "streamer",
            program(
                "streamer",
                *(part for file in replay.files for part in ("--csv", file)),
                "--once" if replay.once else "--loop",
                *("--rate", replay.rate, "--workers", replay.workers),
                *("--queue", queue_address, "--http-port", ports.streamer_http_port),
            ),
            http_probe(ports.streamer_http_port),
            finishes=replay.once,
        ),
        ProcessSpec(
            "gateway",
            program(
                "gateway",
                *("--dashboard-port", ports.dashboard_port, "--api-port", ports.api_port, "--queue", queue_address),
                *("--collector", f"{HOST}:{ports.collector_port}"),
                *("--streamer-http", f"{HOST}:{ports.streamer_http_port}"),
                *("--alerts", f"{HOST}:{ports.alerts_port}"),
                # It listens on loopback only, for whoever started it.
                *("--admin", "--audit-log", data_folder / "gateway" / "audit.jsonl"),
            ),
            http_probe(ports.api_port, stats=False),
        ),
        ProcessSpec(
            "alerts",
            program(
                "alerts",
                *("serve", "--queue", queue_address, "--data-dir", data_folder / "alerts"),
                *("--grpc-port", ports.alerts_port, "--http-port", ports.alerts_http_port),
            ),
            http_probe(ports.alerts_http_port),
        ),
        ProcessSpec(
            "collector",
            program(
                "collector",
                *("--queue", queue_address, "--data-dir", data_folder / "store"),
                *("--grpc-port", ports.collector_port, "--health-port", ports.collector_http_port),
            ),
            http_probe(ports.collector_http_port),
        ),
        ProcessSpec(
            "queue",
            program(
                "queue",
                *("--data-dir", data_folder / "queue", "--fsync", fsync),
                *("--grpc-port", ports.queue_port, "--http-port", ports.queue_http_port),
            ),
            http_probe(ports.queue_http_port),
        ),
    ]


def check_files(files: Sequence[Path]) -> None:
    """See that all files can be opened, before anything starts.

    Raises:
        StartupError: naming the file.
    """
    for file in files:
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            raise StartupError(f"{file}: {error.strerror}") from None


def http_probe(port: int, *, stats: bool = True) -> Probe:
    """A probe that asks ``/health``, and ``/stats`` for what to show, of a process on this machine."""

    def ask() -> Health | None:
        try:
            answer = _get(port, "/health")
            return _get(port, "/stats") if stats else answer
        except (OSError, ValueError, urllib.error.URLError):
            return None

    async def probe() -> Health | None:
        return await asyncio.to_thread(ask)

    return probe


def _get(port: int, path: str) -> Health:
    # The scheme is ours and the host is this machine.
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=PROBE_S_MAX) as answer:
        content = json.load(answer)
    return content if isinstance(content, dict) else {}
