"""The commands of README, quickstart and tutorial, run as they stand there against a pipeline that runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, Command, wait_until

USUAL_PORTS = {
    "dashboard": 8080,
    "api": 8081,
    "queue-http": 9090,
    "queue": 9091,
    "collector": 9092,
    "collector-http": 8082,
    "streamer-http": 9093,
    "alerts": 9094,
    "alerts-http": 9095,
}
ENDLESS = re.compile(r"curl -sN|telemetry tail|/Subscribe|simulate .*--queue|tail -f", re.DOTALL)
"""What goes on until it is stopped."""
ELSEWHERE = re.compile(
    r"^(?:make|git|export|kubectl|helm|docker|\./demo\.sh|nvidia-smi|telemetry up|telemetry-)"
    r"|…|alerts serve|localhost:8080"
)
"""What needs what is not here, has an ellipsis, or starts what runs already."""


def commands(page: str) -> list[str]:
    """The shell commands of a page, each with its continuation lines and here-documents."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
        found += list(_complete(block))
    return found


def write_files(page: str, folder: Path) -> None:
    """Make the files that a page shows: blocks that begin with a file's name in a comment."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name, content in re.findall(r"```yaml\n# ([a-z.]+\.yaml)\n(.*?)```", text, re.DOTALL):
        (folder / name).write_text(content)


def _complete(block: str) -> Iterator[str]:
    text = ""
    for line in block.splitlines():
        text += line + "\n"
        unfinished = line.endswith("\\") or ("<<EOF" in text and not text.endswith("\nEOF\n"))
        if not unfinished and not subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).returncode:
            if text.strip() and not text.lstrip().startswith("#"):
                yield text.strip()
            text = ""
    assert not text, f"a block ends within a command: {text}"


def _here(command: str, ports: dict[str, int]) -> str:
    """The command with the ports of a pipeline that runs."""
    for name, usual in USUAL_PORTS.items():
        command = re.sub(rf"(127\.0\.0\.1|localhost):{usual}\b", f"127.0.0.1:{ports[name]}", command)
    return command


@pytest.mark.parametrize(("page", "least"), [("README.md", 12), ("docs/quickstart.md", 3), ("docs/tutorial.md", 5)])
def test_every_command_of_a_page_works_as_it_stands_there(
    page: str, least: int, up: Callable[..., Command], tmp_path: Path
) -> None:
    if shutil.which("jq") is None or shutil.which("curl") is None:
        pytest.skip("curl or jq is not on this machine: the commands of the docs were not run")
    pipeline = up()
    wait_until(lambda: len(pipeline.get(f"{pipeline.api}/gpus")["gpus"]) > 8, "the sample is stored")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TELEMETRY_QUEUE_ADDRESS": f"127.0.0.1:{pipeline.ports['queue']}",
        "TELEMETRY_COLLECTOR_ADDRESS": f"127.0.0.1:{pipeline.ports['collector']}",
    }
    write_files(page, tmp_path)
    run, failed = 0, []
    for command in commands(page):
        if ELSEWHERE.search(command):
            continue
        endless = bool(ENDLESS.search(command))
        done = subprocess.run(
            ["timeout", "3" if endless else "60", "bash", "-c", _here(command, pipeline.ports)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        run += 1
        ended = done.returncode == 0 or (endless and done.returncode == 124)
        # A problem is an answer like any other to curl.
        if not ended or '"type":"about:blank"' in done.stdout:
            failed.append(f"{command}\n  {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    assert not failed, "\n".join(failed)
    assert run >= least
