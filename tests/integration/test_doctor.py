"""`telemetry doctor` on things that are well and things that are not: real ports, real directories."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from telemetry.cli.doctor import doctor
from telemetry.runtime.datadir import DataDirectoryLock

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts HTTP servers that answer everything with one thing; gives their addresses."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def started(body: object, *, status: int = 200, ahead: timedelta = timedelta()) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = json.dumps(body).encode()
                self.send_response_only(status)
                self.send_header("Date", format_datetime(datetime.now(UTC) + ahead, usegmt=True))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{server.server_port}"

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


def ask(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what was found by what was looked at."""
    done = CliRunner().invoke(doctor, [*arguments, "--json"])
    return done.exit_code, {each["check"]: each for each in json.loads(done.output)}


def test_a_gateway_that_is_well_and_a_directory_that_can_be_made_are_found_well(tmp_path: Path, serve: Serve) -> None:
    address = serve({"status": "ok", "version": "0.1.0"})
    code, found = ask("--gateway", address, "--data-dir", str(tmp_path / "new" / "data"))
    assert code == 0
    assert found[f"gateway {address}"]["verdict"] == "ok"
    assert found["data directory"]["verdict"] == "ok"
    assert found["python"]["verdict"] == "ok"
    assert not (tmp_path / "new").exists(), "the doctor leaves nothing behind"


def test_a_clock_that_is_off_is_found(tmp_path: Path, serve: Serve) -> None:
    address = serve({"status": "ok", "version": "0.1.0"}, ahead=timedelta(minutes=5))
    code, found = ask("--gateway", address, "--data-dir", str(tmp_path))
    assert code == 1
    finding = found[f"gateway {address}"]
    assert "+300 s off" in finding["detail"] or "+299 s off" in finding["detail"]
    assert "NTP" in finding["remedy"]


def test_what_a_process_says_is_not_well_is_passed_on(tmp_path: Path, serve: Serve) -> None:
    checks = {"queue": {"ok": False, "detail": "not connected"}, "store": {"ok": True, "detail": "fine"}}
    address = serve({"status": "degraded", "version": "0.1.0", "checks": checks}, status=503)
    _, found = ask("--gateway", address, "--data-dir", str(tmp_path))
    finding = found[f"gateway {address}"]
    assert (finding["verdict"], finding["detail"]) == ("warn", "degraded: queue: not connected")


def test_a_stranger_on_the_port_and_nobody_on_the_port_are_told_apart(tmp_path: Path, serve: Serve) -> None:
    stranger = serve({"hello": "world"})
    code, found = ask(
        "--gateway", stranger, "--queue", stranger, "--collector", "127.0.0.1:1", "--data-dir", str(tmp_path)
    )
    assert code == 1
    assert "not ours" in found[f"gateway {stranger}"]["detail"]
    assert "UNAVAILABLE" in found[f"queue {stranger}"]["detail"]
    assert "--ca" in found[f"queue {stranger}"]["remedy"]
    assert found["collector 127.0.0.1:1"]["detail"] == "nobody listens there"


def test_a_data_directory_that_is_a_file_or_cannot_be_written_is_a_failure_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", Path("/proc/none")):
        code, found = ask("--data-dir", str(wrong), "--collector", "127.0.0.1:1")
        assert code == 1
        assert found["data directory"]["verdict"] == "fail"
        assert "--data-dir" in found["data directory"]["remedy"]


def test_who_holds_the_directory_is_said_and_not_disturbed(tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path / "store"):
        _, found = ask("--data-dir", str(tmp_path), "--collector", "127.0.0.1:1")
        assert f"in use by process {os.getpid()}" in found["lock"]["detail"]


def test_an_address_without_a_port_is_refused_by_name() -> None:
    done = CliRunner().invoke(doctor, ["--queue", "somewhere"])
    assert done.exit_code == 2
    assert "'somewhere' is not host:port" in done.output
