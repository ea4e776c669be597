"""`telemetry up` as a new user meets it."""

from __future__ import annotations

import csv
import json
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from telemetry.model import canonical_metric
from tests.e2e.processes import PORTS, ROOT, Command, Start, free_ports, wait_until

Up = Callable[..., Command]


def all_gpus(running: Command) -> list[dict[str, object]]:
    gpus = running.get(f"{running.api}/gpus", page_size=1000)
    assert gpus["completeness"] == {"partial": False, "warnings": []}
    assert gpus["next_page_token"] == ""
    return list(gpus["gpus"])


def stored_samples(running: Command) -> Counter[tuple[str, str, str, float]]:
    """Every sample that the API knows, with how often: GPU, metric, time, value."""
    found: Counter[tuple[str, str, str, float]] = Counter()
    for gpu in all_gpus(running):
        records = running.get(f"{running.api}/gpus/{gpu['gpu']}/telemetry", limit=10_000)["records"]
        for record in records:
            for name, value in record["metrics"].items():
                found[str(gpu["gpu"]), name, record["timestamp"], value] += 1
    return found


def test_without_files_the_sample_moves_on_loopback_only_and_ctrl_c_ends_everything(up: Up) -> None:
    running = up()
    wait_until(lambda: len(all_gpus(running)) == 32, "all GPUs of the sample are listed")
    first = running.get(f"{running.api}/fleet")["time"]
    wait_until(lambda: running.get(f"{running.api}/fleet")["time"] > first, "time goes on")
    processes = running.children()
    assert set(processes) == {"queue", "collector", "streamer", "gateway", "alerts"}
    family = [psutil.Process(running.process.pid), *processes.values()]
    sockets = [each for member in family for each in member.net_connections("inet")]
    assert len([each for each in sockets if each.status == psutil.CONN_LISTEN]) == len(PORTS)
    # Connections that gRPC makes are IPv4's within IPv6.
    assert {each.laddr.ip.removeprefix("::ffff:") for each in sockets} <= {"127.0.0.1", "::1"}
    assert running.stop(signal.SIGINT) == 0
    assert not any(process.is_running() for process in processes.values())


def test_a_dcgm_export_is_found_whole_through_the_api(up: Up, captures: Path) -> None:
    file = captures / "dcgm_h100_31_hosts.csv"
    running = up(file, "--once")
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    expected = Counter(
        (row["uuid"], canonical_metric(row["metric_name"])[0], row["timestamp"], float(row["value"])) for row in rows
    )
    wait_until(lambda: len(all_gpus(running)) == 247, "all GPUs are listed")
    gpus = all_gpus(running)
    assert len({gpu["host"] for gpu in gpus}) == 31
    assert {len(gpu["metrics"]) for gpu in gpus} == {10}  # type: ignore[arg-type]
    wait_until(lambda: stored_samples(running).total() >= len(rows), "all is stored")
    found = stored_samples(running)
    scaled = {(gpu, name, time.replace(".000000", "")): value for gpu, name, time, value in found}
    assert len(found) == found.total() == len(rows)
    for (gpu, name, time, value), count in expected.items():
        assert count == 1
        factor = 1e-3 if name == "energy" else 1.0
        assert scaled[gpu, name, time] == pytest.approx(value * factor), (gpu, name, time)


def test_nvidia_smi_units_are_gone_and_not_available_is_absence(up: Up, captures: Path) -> None:
    running = up(captures / "nvidia_smi_h100.csv", "--once")
    (gpu,) = wait_until(lambda: all_gpus(running), "the GPU is listed")
    records = wait_until(
        lambda: (r := running.get(f"{running.api}/gpus/{gpu['gpu']}/telemetry", order="oldest")["records"])[1:] and r,
        "both rows are stored",
    )
    times = [record["timestamp"] for record in records]
    assert times == ["2026-07-14T08:12:38.696000Z", "2026-07-14T08:12:53.353000Z"]
    loaded = records[1]["metrics"]
    assert (loaded["utilization"], loaded["power_draw"], loaded["memory_used"]) == (100.0, 631.95, 19818.0)
    assert "fan_speed" not in loaded


def test_a_file_that_is_not_there_is_named_without_a_traceback(start: Start, tmp_path: Path) -> None:
    running = start("up", "no-such.csv", "--once", "--data-dir", tmp_path / "data")
    assert running.process.wait(timeout=30) == 1
    assert running.log.read_text().strip() == "telemetry-up: no-such.csv: No such file or directory"


def test_a_port_in_use_is_named_with_its_flag(start: Start, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = start("up", "--data-dir", tmp_path / "data", "--api-port", port)
        assert running.process.wait(timeout=30) == 1
    said = running.log.read_text()
    assert f"127.0.0.1:{port} is already in use" in said
    assert "--api-port" in said
    assert "Traceback" not in said


def test_a_second_pipeline_on_the_same_data_is_refused(up: Up, start: Start, tmp_path: Path) -> None:
    up(data_dir=tmp_path / "data")
    second = start("up", "--data-dir", tmp_path / "data", *[f"--{name}-port=0" for name in ("api", "dashboard")])
    assert second.process.wait(timeout=30) == 1
    said = second.log.read_text()
    assert f"{tmp_path / 'data'} is in use by process" in said
    assert "Traceback" not in said


def test_a_file_without_a_gpu_column_ends_it_with_what_was_found(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "weather.csv"
    file.write_text("city,rain\nOslo,3\n")
    zeros = [f"--{name}-port=0" for name in ("api", "dashboard", "queue", "queue-http", "collector", "collector-http")]
    more = [f"--{name}-port=0" for name in ("streamer-http", "alerts", "alerts-http")]
    running = start("up", file, "--once", "--data-dir", tmp_path / "data", *zeros, *more)
    assert running.process.wait(timeout=60) == 1
    said = running.log.read_text()
    assert "weather.csv" in said
    assert "city" in said
    assert "Traceback" not in said


def test_a_collector_brings_its_own_queue_for_a_streamer(start: Start, tmp_path: Path) -> None:
    """The set-up of two commands, with the ports that people know replaced by free ones."""
    health = free_ports(1)[0]
    broker = next(port for port in (free_ports(1)[0] for _ in range(50)) if port + 1 not in (health,) and port < 65000)
    (tmp_path / "your.csv").write_text(
        "gpu_id,temperature,utilization,memory_used,power_draw\n"
        + "".join(f"gpu_{n % 2},{60 + n},{n},{1000 + n},{300 + n}.5\n" for n in range(20))
    )
    grpc, http = free_ports(2)
    collector = start(
        "collector", "--workers=4", "--data-dir=./data", f"--health-port={health}", f"--broker-port={broker}",
        "--checkpoint", f"--grpc-port={grpc}", ports={"health": health, "broker": broker},
    )  # fmt: skip
    wait_until(lambda: collector.get(collector.url("health", "/health"))["status"] == "ok", "the collector answers")
    start(
        "streamer",
        "--csv=your.csv",
        "--workers=2",
        "--rate=5",
        f"--queue=127.0.0.1:{broker + 1}",
        f"--http-port={http}",
    )
    answer = wait_until(
        lambda: (a := collector.get(collector.url("health", "/telemetry/gpu_0"), limit=10))["telemetry"][2:] and a,
        "records of gpu_0 arrive",
    )
    assert answer["gpu_id"] == "gpu_0"
    assert set(answer["telemetry"][0]["metrics"]) == {"temperature", "utilization", "memory_used", "power_draw"}
    assert collector.get(collector.url("health", "/stats"))["records"] >= 3
    assert collector.get(collector.url("health", "/memory-stats"))
    assert collector.get(collector.url("broker", "/health"))["status"] == "ok"
    topics = {topic["topic"] for topic in collector.get(collector.url("broker", "/stats"))["topics"]}
    assert "telemetry" in topics
    assert "telemetry" in json.dumps(collector.get(collector.url("broker", "/topics")))
    assert collector.client.get(collector.url("health", "/telemetry/nobody")).status_code == 404
    (stored,) = (tmp_path / "data").rglob("gpu_0*.jsonl")
    lines = [json.loads(line) for line in stored.read_text().splitlines()]
    assert set(lines[0]) == {"gpu_id", "metrics", "timestamp"}


@pytest.mark.parametrize("victim", ["queue", "collector", "streamer", "gateway"])
def test_a_process_killed_while_data_flows_comes_back_and_every_row_is_stored_once(
    up: Up, tmp_path: Path, victim: str
) -> None:
    gpus, instants = 8, 1500
    file = tmp_path / "rows.csv"
    with file.open("w") as out:
        out.write("timestamp,gpu_id,temperature,power_draw\n")
        for instant in range(instants):
            at = f"2026-03-01T{instant // 3600:02}:{instant // 60 % 60:02}:{instant % 60:02}Z"
            out.writelines(f"{at},gpu_{gpu},{instant % 90},{instant}.{gpu}\n" for gpu in range(gpus))
    running = up(file, "--once", "--rate", 600)
    wait_until(lambda: all_gpus(running), "data flows")
    process = running.children()[victim]
    process.send_signal(signal.SIGKILL)
    wait_until(
        lambda: (now := running.children().get(victim)) and now.pid != process.pid and psutil.pid_exists(now.pid),
        f"the {victim} comes back",
    )

    def complete() -> bool:
        return all(
            len(running.get(f"{running.api}/gpus/gpu_{gpu}/telemetry", limit=10_000)["records"]) >= instants
            for gpu in range(gpus)
        )

    wait_until(complete, "every row is stored")
    samples = stored_samples(running)
    assert samples.total() == len(samples) == gpus * instants * 2
    on_disk = sum(path.read_bytes().count(b"\n") for path in (tmp_path / "data" / "store").rglob("gpu_*.jsonl"))
    assert on_disk == gpus * instants


def test_ctrl_c_on_a_terminal_ends_make_run_with_exit_code_0(tmp_path: Path) -> None:
    if not (ROOT / ".venv" / "bin" / "telemetry").exists():
        pytest.skip("not a checkout with a virtualenv: `make run` was not tried")
    zeros = " ".join(f"--{name}-port=0" for name in PORTS)
    make = ["make", "-C", str(ROOT), "run", f"ARGS=--data-dir {tmp_path / 'data'} {zeros}"]
    # In an interpreter of its own: a terminal is made by forking, which a process with threads should not do.
    on_terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    with subprocess.Popen(
        [sys.executable, "-c", on_terminal, *make], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        said = b""
        while b"Ctrl-C stops everything" not in said and (chunk := run.stdout.read(65536)):
            said += chunk
        run.stdin.write(b"\x03")
        said += run.stdout.read()
    assert run.returncode == 0, said.decode()
    data = str(tmp_path / "data")
    assert not [left for left in psutil.process_iter(["cmdline"]) if data in " ".join(left.info["cmdline"] or ())]
