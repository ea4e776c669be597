"""compose.yaml: what it starts, what it publishes, and that our commands accept it. No container runs here."""

from __future__ import annotations

import re
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
SERVICES: Final[dict[str, dict[str, Any]]] = {
    name: service for name, service in COMPOSE["services"].items() if "profiles" not in service
}
"""Ours."""
MONITORING: Final[dict[str, dict[str, Any]]] = {
    name: service for name, service in COMPOSE["services"].items() if "profiles" in service
}
"""Those of others, in a profile."""
PUBLISHED: Final = re.compile(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-(\d+)\}:(\d+)")


def test_it_follows_the_compose_specification() -> None:
    if find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed: compose.yaml is not held against the specification")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_runs_the_five_processes_from_targets_of_their_names() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert SERVICES.keys() == {"queue", "collector", "streamer", "gateway", "alerts"}
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
def test_the_program_accepts_its_environment(name: str, parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"ALERTMANAGER": "http://alertmanager:9093", "WEBHOOK": "https://a/b https://c/d", "RETENTION_RAW": "30d"}
    for variables in ({}, given):
        for variable, text in SERVICES[name].get("environment", {}).items():
            (own, default) = re.fullmatch(r"\$\{(\w+):-(.*)\}", text).groups()  # type: ignore[union-attr]
            monkeypatch.setenv(variable, variables.get(own, default))
        settings = parse(name, SERVICES[name]["command"])
        if name == "alerts":
            assert settings["alertmanager"] == (("http://alertmanager:9093",) if variables else ())
            assert settings["webhook"] == (("https://a/b", "https://c/d") if variables else ())
        if name == "collector":
            assert settings["retention_raw"] == (30 * 86_400 if variables else float("inf"))
            assert settings["retention_bytes"] == 0


@pytest.mark.parametrize("name", SERVICES)
def test_the_health_check_asks_the_process_itself(name: str, listens: Listens) -> None:
    check = SERVICES[name]["healthcheck"]
    url = urlsplit(check["test"][-1])
    assert url.hostname == "127.0.0.1"
    assert url.port in listens(name, SERVICES[name]["command"])
    assert url.path == "/health"
    assert check["retries"] > 0


def test_addresses_of_other_processes_lead_to_a_port_of_theirs(parse: Parse) -> None:
    peers = {
        "--queue": "grpc_port", "--collector": "grpc_port", "--alerts": "grpc_port", "--streamer-http": "http_port",
    }  # fmt: skip
    seen = set()
    for service in SERVICES.values():
        for flag, value in zip(service["command"], service["command"][1:], strict=False):
            if flag in peers:
                peer, _, port = value.partition(":")
                assert parse(peer, SERVICES[peer]["command"])[peers[flag]] == int(port)
                seen.add(flag)
    assert seen == peers.keys()


def test_processes_wait_for_a_healthy_queue() -> None:
    for name, service in SERVICES.items():
        if name != "queue":
            assert service["depends_on"]["queue"] == {"condition": "service_healthy"}


def test_only_the_gateway_is_published_and_only_on_loopback() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["gateway"]
    assert [PUBLISHED.fullmatch(port)[1] for port in SERVICES["gateway"]["ports"]] == ["8080", "8081"]  # type: ignore[index]
    for service in MONITORING.values():
        assert all(PUBLISHED.fullmatch(port) for port in service["ports"])
    assert not any("network_mode" in service for service in COMPOSE["services"].values())


def test_no_two_services_want_one_port_of_this_machine() -> None:
    ports = [port.split(":")[1:] for each in COMPOSE["services"].values() for port in each.get("ports", ())]
    assert len(ports) == 5
    assert len({str(port) for port in ports}) == len(ports)


def test_processes_have_no_rights_that_they_do_not_need() -> None:
    for service in COMPOSE["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_what_must_outlive_a_container_is_in_a_named_volume() -> None:
    used = []
    for name in ("queue", "collector", "alerts"):
        (mount,) = SERVICES[name]["volumes"]
        volume, _, target = mount.partition(":")
        assert SERVICES[name]["command"][SERVICES[name]["command"].index("--data-dir") + 1] == target
        used.append(volume)
    used += [each.split(":")[0] for service in MONITORING.values() for each in service["volumes"] if each[0] != "."]
    assert sorted(used) == sorted(COMPOSE["volumes"])


# --- the profile "monitoring" ----------------------------------------------------------------------


def test_monitoring_is_asked_for_by_its_profile_and_pinned() -> None:
    assert MONITORING.keys() == {"prometheus", "alertmanager", "grafana"}
    for service in MONITORING.values():
        assert service["profiles"] == ["monitoring"]
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        assert "healthcheck" in service


def test_the_files_that_monitoring_mounts_are_there_and_read_only() -> None:
    for name, service in MONITORING.items():
        for mount in service["volumes"]:
            source, target, *mode = mount.split(":")
            if source.startswith("."):
                assert (FILE.parent / source).exists(), source
                assert mode == ["ro"]
                if name != "grafana":
                    assert f"--config.file={target}" in service["command"]


@pytest.mark.parametrize(
    ("tool", "arguments", "file"),
    [("promtool", ("check", "config"), "prometheus.yaml"), ("amtool", ("check-config",), "alertmanager.yaml")],
)
def test_prometheus_and_alertmanager_take_their_configuration(tool: str, arguments: tuple[str, ...], file: str) -> None:
    program = Path(sys.executable).parents[1] / "servers" / "usr" / "bin" / tool
    if not program.exists():
        pytest.skip(f"{tool} is not there (scripts/servers.sh): {file} is not checked")
    command = [str(program), *arguments, str(FILE.parent / "monitoring" / file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_scrapes_every_process_and_the_gpus(listens: Listens) -> None:
    config = yaml.safe_load((FILE.parent / "monitoring" / "prometheus.yaml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    targets = {each["labels"]["component"]: each["targets"] for each in jobs["telemetry"]["static_configs"]}
    assert targets.keys() == SERVICES.keys()
    for name, (target,) in targets.items():
        host, _, port = target.partition(":")
        assert host == name
        health = urlsplit(SERVICES[name]["healthcheck"]["test"][-1])
        assert int(port) == health.port, "the port of /health is that of /metrics"
        assert int(port) in listens(name, SERVICES[name]["command"])
    assert jobs["gpus"]["metrics_path"] == "/metrics/gpus"
    assert jobs["gpus"]["honor_labels"] is True
    assert jobs["gpus"]["static_configs"] == [{"targets": targets["gateway"]}]


def test_grafana_finds_its_data_source_and_the_charts_dashboards() -> None:
    folder = FILE.parent / "monitoring" / "grafana"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert urlsplit(source["url"]).hostname in MONITORING
    (provider,) = yaml.safe_load((folder / "dashboards" / "telemetry.yaml").read_text())["providers"]
    mounts = dict(mount.split(":")[1::-1] for mount in MONITORING["grafana"]["volumes"])
    dashboards = (FILE.parent / mounts[provider["options"]["path"]]).resolve()
    assert dashboards == ROOT / "helm" / "telemetry-pipeline" / "dashboards"
    home = MONITORING["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (dashboards / Path(home).name).is_file()
    assert Path(home).parent == Path(provider["options"]["path"])


def test_nobody_can_log_in_to_grafana_with_a_password_that_everybody_knows() -> None:
    environment = MONITORING["grafana"]["environment"]
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
