"""compose.yaml: what it starts, what it publishes, and that our commands accept it. No container runs here."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

Parse = Callable[[str, Sequence[str]], dict[str, Any]]
Listens = Callable[[str, Sequence[str]], set[int]]

ROOT: Final = Path(__file__).resolve().parents[3]
FILE: Final = ROOT / "deploy" / "docker" / "compose.yaml"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load(FILE.read_text())
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]


def test_it_follows_the_compose_specification() -> None:
    if find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed: compose.yaml is not held against the specification")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_runs_the_four_processes_from_targets_of_their_names() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert SERVICES.keys() == {"queue", "collector", "streamer", "gateway"}
    for name, service in SERVICES.items():
        assert service["build"]["target"] == name
        context = (FILE.parent / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]).is_file()
        assert service["image"] == f"${{IMAGE:-gpu-telemetry-pipeline}}-{name}:${{TAG:-{version}}}"


@pytest.mark.parametrize("name", SERVICES)
def test_the_program_accepts_its_command(name: str, parse: Parse, listens: Listens) -> None:
    settings = parse(name, SERVICES[name]["command"])
    assert settings["host"] == "0.0.0.0"
    assert settings["insecure"] is True
    for published in SERVICES[name].get("ports", []):
        assert int(published.rpartition(":")[2]) in listens(name, SERVICES[name]["command"])


@pytest.mark.parametrize("name", SERVICES)
def test_the_health_check_asks_the_process_itself(name: str, listens: Listens) -> None:
    check = SERVICES[name]["healthcheck"]
    url = urlsplit(check["test"][-1])
    assert url.hostname == "127.0.0.1"
    assert url.port in listens(name, SERVICES[name]["command"])
    assert url.path == "/health"
    assert check["retries"] > 0


def test_addresses_of_other_processes_lead_to_a_port_of_theirs(parse: Parse) -> None:
    peers = {"--queue": "grpc_port", "--collector": "grpc_port", "--streamer-http": "http_port"}
    for service in SERVICES.values():
        for flag, value in zip(service["command"], service["command"][1:], strict=False):
            if flag in peers:
                peer, _, port = value.partition(":")
                assert parse(peer, SERVICES[peer]["command"])[peers[flag]] == int(port)


def test_processes_wait_for_a_healthy_queue() -> None:
    for name, service in SERVICES.items():
        if name != "queue":
            assert service["depends_on"]["queue"] == {"condition": "service_healthy"}


def test_only_the_gateway_is_published_and_only_on_loopback() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["gateway"]
    assert SERVICES["gateway"]["ports"] == ["127.0.0.1:8080:8080", "127.0.0.1:8081:8081"]
    assert not any("network_mode" in service for service in SERVICES.values())


def test_processes_have_no_rights_that_they_do_not_need() -> None:
    for service in SERVICES.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_what_must_outlive_a_container_is_in_a_named_volume() -> None:
    for name in ("queue", "collector"):
        (mount,) = SERVICES[name]["volumes"]
        volume, _, target = mount.partition(":")
        assert volume in COMPOSE["volumes"]
        assert SERVICES[name]["command"][SERVICES[name]["command"].index("--data-dir") + 1] == target
