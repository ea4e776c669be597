"""Each process with no more libraries than its image has: requirements/<process>.txt, in a virtualenv of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.e2e.processes import PORTS, ROOT, free_ports, wait_until

PROCESSES: Final = ("queue", "collector", "streamer", "alerts", "gateway")
SAMPLE: Final = ROOT / "examples" / "dcgm_sample.csv.gz"


def program(folder: Path, process: str) -> Path:
    """The Python of a virtualenv that has our code and what the image of a process has."""
    home = folder / process
    venv.EnvBuilder(symlinks=True).create(home)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    pinned = (ROOT / "requirements" / f"{process}.txt").read_text()
    for name in {"gpu-telemetry-pipeline", *re.findall(r"^([\w.-]+)==", pinned, re.MULTILINE)}:
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            top = site / file.parts[0]
            if file.parts[0] != ".." and not top.exists():
                top.symlink_to(str(distribution.locate_file(file.parts[0])))
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("images")
    return {process: program(folder, process) for process in PROCESSES}


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    return dict(zip(PORTS, free_ports(len(PORTS)), strict=True))


@pytest.fixture(scope="module")
def data(programs: dict[str, Path], ports: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The five of them, and where they keep their data."""
    folder = tmp_path_factory.mktemp("data")
    address = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    commands: dict[str, tuple[object, ...]] = {
        "queue": ("--data-dir", folder / "queue", "--grpc-port", ports["queue"], "--http-port", ports["queue-http"]),
        "collector": (
            *("--queue", address["queue"], "--data-dir", folder / "store", "--rotate-bytes", "4KiB"),
            *("--grpc-port", ports["collector"], "--health-port", ports["collector-http"]),
            *("--compact-interval", "1s", "--compact-after", "1s"),
        ),
        "streamer": (
            *(SAMPLE, "--queue", address["queue"], "--http-port", ports["streamer-http"], "--rate", 0),
            *("--once", "--stay"),
        ),
        "alerts": (
            *("serve", "--queue", address["queue"], "--data-dir", folder / "alerts"),
            *("--grpc-port", ports["alerts"], "--http-port", ports["alerts-http"]),
        ),
        "gateway": (
            *("--queue", address["queue"], "--collector", address["collector"], "--alerts", address["alerts"]),
            *("--streamer-http", address["streamer-http"], "--admin"),
            *("--dashboard-port", ports["dashboard"], "--api-port", ports["api"]),
        ),
    }
    running: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        for process, arguments in commands.items():
            log = stack.enter_context((folder / f"{process}.log").open("w"))
            line = [str(word) for word in (programs[process], "-m", "telemetry", process, *arguments)]
            running.append(subprocess.Popen(line, cwd=folder, stdout=log, stderr=log))
        try:
            yield folder
            assert [each.poll() for each in running] == [None] * len(running)
        finally:
            for each in reversed(running):
                each.terminate()
            for each in reversed(running):
                each.wait(timeout=60)


def test_records_go_from_file_to_store_and_everything_about_them_can_be_asked(
    data: Path, programs: dict[str, Path], ports: dict[str, int]
) -> None:
    queue = f"127.0.0.1:{ports['queue']}"
    assert ask(programs["streamer"], "import", str(SAMPLE), "--topic", "kept", "--queue", queue).returncode == 0
    with httpx.Client(base_url=f"http://127.0.0.1:{ports['api']}/api/v1", timeout=10) as api:

        def get(path: str, **parameters: str | int) -> dict[str, list[dict[str, object]]]:
            found: dict[str, list[dict[str, object]]] = api.get(path, params=parameters).raise_for_status().json()
            return found

        wait_until(lambda: len(get("/gpus", page_size=100)["gpus"]) == 32, "the GPUs are listed")
        (first, *_) = get("/gpus")["gpus"]
        wait_until(lambda: list((data / "store").rglob("*.parquet")), "records are moved to the cold tier")
        times = {"start_time": "2026-03-02T09:00:00Z", "end_time": "2026-03-02T09:05:00Z", "step": "1m"}
        series = get(f"/gpus/{first['gpu']}/series", metric="temperature", **times)
        assert "temperature" in str(series)
        (records, *_) = get("/queue/topics/kept/messages")["messages"]
        assert "temperature" in str(records)
        wait_until(lambda: get("/alerts/rules")["groups"], "the rules are known")
    complaints = [line for log in data.glob("*.log") for line in log.read_text().splitlines() if '"error"' in line]
    assert [line for line in complaints if "No module named" in line] == []


@pytest.mark.parametrize("process", PROCESSES)
def test_operators_can_ask_the_queue_from_every_image(
    data: Path, programs: dict[str, Path], ports: dict[str, int], process: str
) -> None:
    done = ask(programs[process], "topics", "list", "--queue", f"127.0.0.1:{ports['queue']}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "telemetry.quarantine" in done.stdout


def test_the_doctor_finds_nothing_wrong_with_an_image(programs: dict[str, Path]) -> None:
    done = ask(programs["queue"], "doctor")
    assert re.search(r"^warn  libraries +not here: .*polars", done.stdout, re.MULTILINE), done.stdout


def test_a_command_whose_library_an_image_lacks_says_so_in_one_sentence(programs: dict[str, Path]) -> None:
    done = ask(programs["queue"], "query", "gpus")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "Error: this needs the library polars, which is not installed here: an image has what its own process needs, "
        "`pip install gpu-telemetry-pipeline` has all\n"
    )


def ask(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.defpath, "HOME": "/nowhere"}
    line = [str(python), "-m", "telemetry", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=60)
