"""The queue from stubs that another language generates, with nothing but the .proto files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, Start, free_ports, wait_until

FOLDER = ROOT / "tests" / "clients" / "node"


@pytest.fixture(scope="module")
def node_stubs() -> Path:
    """The Node client with its generated stubs."""
    buf = Path(sys.executable).parent / "buf"
    if not buf.exists():
        pytest.skip("buf does not run on this platform: no stubs were generated for Node")
    if shutil.which("node") is None:
        pytest.skip("no Node on the PATH: the Node client was not run")
    npm = [sys.executable, str(ROOT / "scripts" / "npm.py"), "--prefix", str(FOLDER), "ci", "--no-audit", "--no-fund"]
    subprocess.run(npm, check=True, capture_output=True, timeout=100)
    subprocess.run([sys.executable, ROOT / "scripts" / "lint_protos.py"], check=True)
    subprocess.run([buf, "generate", ROOT, "--template", "buf.gen.yaml", "--include-imports"], check=True, cwd=FOLDER)
    return FOLDER


@pytest.fixture
def queue_address(start: Start, tmp_path: Path) -> str:
    port, http_port = free_ports(2)
    queue = start(
        "queue",
        "--data-dir",
        tmp_path / "queue",
        "--grpc-port",
        port,
        "--http-port",
        http_port,
        ports={"http": http_port},
    )
    wait_until(lambda: queue.get(queue.url("http", "/health"))["status"] == "ok", "the queue answers")
    return f"127.0.0.1:{port}"


def test_node_publishes_subscribes_and_acks(node_stubs: Path, queue_address: str) -> None:
    run = subprocess.run(
        ["node", "client.mjs", queue_address], cwd=node_stubs, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "baseOffset": 0,
        "received": ["message 0", "message 1", "message 2"],
        "acked": ["OK"],
        "ackedThrough": 3,
    }
