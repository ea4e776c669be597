"""Prometheus and VictoriaMetrics as they run here: started, filled by remote write, measured and asked."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from benchmarks.queue.programs import HOST, MissingError, Program, free_port
from benchmarks.store.remote_write import RemoteWriter

ROOT: Final = Path(__file__).resolve().parents[2]
UNPACKED: Final = ROOT / ".venv" / "servers" / "usr" / "bin"
CONNECTIONS: Final = 2
QUIET_S_MAX: Final = 600.0


def program(name: str) -> Path:
    """Where a server is.

    Raises:
        MissingError: it is nowhere.
    """
    if (UNPACKED / name).exists():
        return UNPACKED / name
    if found := shutil.which(name):
        return Path(found)
    raise MissingError(f"there is no {name} here; scripts/servers.sh fetches it where apt can")


@dataclass(slots=True)
class Server:
    """A peer: what it is, how it is started, and where it takes and keeps samples."""

    name: str
    command: Sequence[object]
    write_path: str
    folder: Path
    data: Path
    port: int = 0
    running: Program | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.port = free_port()
        command = [str(part).format(port=self.port) for part in self.command]
        self.running = Program.start(self.folder, self.name.lower(), *command)
        self.running.wait_listening(self.port)
        while self.get("/-/ready" if "Prometheus" in self.name else "/health")[0] != 200:
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.running is not None:
            self.running.stop()
            self.running = None

    def get(self, path: str, *, post: bool = False) -> tuple[int, bytes]:
        """Ask over a connection of its own."""
        connection = HTTPConnection(HOST, self.port, timeout=120)
        try:
            connection.request("POST" if post else "GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def query(self, path: str, **parameters: object) -> list[dict[str, Any]]:
        """Ask its Prometheus API; returns the series of the answer."""
        status, body = self.get(f"{path}?{urlencode(parameters)}")
        if status != 200:
            raise SystemExit(f"{self.name}: {path}: {status}: {body[:300].decode(errors='replace')}")
        return list(orjson.loads(body)["data"]["result"])

    def load(self, slabs: Iterator[list[bytes]]) -> float:
        """Send all requests, those of a slab over several connections; returns the seconds that sending took."""
        writers = [RemoteWriter(HOST, self.port, self.write_path) for _ in range(CONNECTIONS)]
        seconds = 0.0
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for bodies in slabs:
                shares = [bodies[at::CONNECTIONS] for at in range(CONNECTIONS)]
                begun = time.perf_counter()
                list(pool.map(_send_all, writers, shares))
                seconds += time.perf_counter() - begun
        for writer in writers:
            writer.close()
        return seconds

    def settled_bytes(self) -> int:
        """Bring everything to disk and into its final form as far as the server offers that; returns its bytes."""
        if "Prometheus" in self.name:
            status, body = self.get("/api/v1/admin/tsdb/snapshot", post=True)
            if status != 200:
                raise SystemExit(f"{self.name}: no snapshot: {body[:300].decode(errors='replace')}")
            return folder_bytes(self.data / "snapshots" / orjson.loads(body)["data"]["name"])
        self.get("/internal/force_flush")
        self.get("/internal/force_merge")
        deadline = time.monotonic() + QUIET_S_MAX
        quiet, before = 0, -1
        while quiet < 5 and time.monotonic() < deadline:
            time.sleep(0.5)
            merging = re.findall(rb"^vm_active_merges\{[^}]*\} (\d+)", self.get("/metrics")[1], re.MULTILINE)
            size = folder_bytes(self.data)
            quiet = quiet + 1 if not any(map(int, merging)) and size == before else 0
            before = size
        return before


def _send_all(writer: RemoteWriter, bodies: Sequence[bytes]) -> None:
    for body in bodies:
        writer.send(body)


def prometheus(folder: Path) -> Server:
    """Debian's Prometheus.

    Raises:
        MissingError: it is not here.
    """
    data = folder / "prometheus"
    config = folder / "prometheus.yml"
    config.write_text("global: {}\n")
    command = [
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=100y",
        "--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--web.enable-admin-api",
        "--log.level=warn",
    ]
    return Server("Prometheus", command, "/api/v1/write", folder, data)


def victoria_metrics(folder: Path) -> Server:
    """Debian's VictoriaMetrics.

    Raises:
        MissingError: it is not here.
    """
    data = folder / "victoria"
    command = [
        program("victoria-metrics"), f"-storageDataPath={data}", "-retentionPeriod=100y",
        "-httpListenAddr=127.0.0.1:{port}", "-search.latencyOffset=0s", "-loggerLevel=WARN",
    ]  # fmt: skip
    return Server("VictoriaMetrics", command, "/api/v1/write", folder, data)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; of what has several names, once."""
    seen: dict[int, int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                status = (Path(root) / name).stat()
            except FileNotFoundError:
                continue
            seen[status.st_ino] = status.st_size
    return sum(seen.values())


def forget_cached(folder: Path) -> None:
    """Put a folder's files out of the page cache, but for what a running process has mapped."""
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                file = os.open(Path(root) / name, os.O_RDONLY)
            except OSError:
                continue
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def each_of(gpus: Sequence[str]) -> Iterator[str]:
    """GPUs one after another, for ever, each far from the one before."""
    return cycle(gpus[at] for at in sorted(range(len(gpus)), key=lambda at: at * 7919 % (len(gpus) + 1)))
