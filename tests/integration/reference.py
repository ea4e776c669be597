"""A real Prometheus over given samples, to ask what an expression is; and promtool, to judge rules."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

_UNPACKED: Final = Path(__file__).parents[2] / ".venv" / "servers" / "usr" / "bin"
START_S: Final = 30.0


def find_program(name: str) -> str | None:
    """The path of a Debian program, from where ``scripts/servers.sh`` unpacked it or from PATH."""
    unpacked = _UNPACKED / name
    return str(unpacked) if unpacked.exists() else shutil.which(name)


class Prometheus:
    """Answers queries."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def query(self, expression: str, at_s: float) -> dict[frozenset[tuple[str, str]], float] | str:
        """The value of each label set, without names of series; or the error."""
        reply = self._client.post("/api/v1/query", data={"query": expression, "time": f"{at_s:.3f}"}).json()
        if reply["status"] != "success":
            return str(reply["error"])
        data = reply["data"]
        if data["resultType"] == "scalar":
            return {frozenset(): float(data["result"][1])}
        return {_labels(sample["metric"]): float(sample["value"][1]) for sample in data["result"]}


def _labels(labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in labels.items() if name != "__name__")


@contextmanager
def prometheus_over(
    samples: Sequence[tuple[str, Mapping[str, str], float, float]], folder: Path
) -> Iterator[Prometheus]:
    """Run Prometheus over samples, each a name, labels, a time in seconds and a value."""
    server, promtool = find_program("prometheus"), find_program("promtool")
    assert server is not None
    assert promtool is not None
    text, data = folder / "samples.om", folder / "data"
    ordered = sorted(samples, key=lambda sample: (sample[0], json.dumps(sample[1], sort_keys=True), sample[2]))
    lines, named = [], ""
    for name, labels, at_s, value in ordered:
        if name != named:
            lines.append(f"# TYPE {name} gauge")
            named = name
        inside = ",".join(f"{key}={json.dumps(text)}" for key, text in labels.items())
        lines.append(f"{name}{{{inside}}} {value!r} {at_s:.3f}")
    text.write_text("\n".join([*lines, "# EOF", ""]))
    subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", text, data], check=True, capture_output=True)
    (folder / "prometheus.yml").write_text("global: {}\n")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [
        server,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.retention.time=100y",
        "--log.level=error",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                _wait_ready(client, process, folder / "log")
                yield Prometheus(client)
        finally:
            process.terminate()


def _wait_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"Prometheus did not start: {log.read_text()}")


def judge_rules(test: Mapping[str, Any], folder: Path) -> tuple[bool, str]:
    """Let ``promtool test rules`` say whether a test of rules passes."""
    promtool = find_program("promtool")
    assert promtool is not None
    path = folder / "test.yaml"
    path.write_text(json.dumps(test))
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr
