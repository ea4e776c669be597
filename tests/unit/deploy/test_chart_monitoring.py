"""What the chart gives to the Prometheus operator and to Grafana."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from click.testing import CliRunner
from promql_parser import parse as parse_promql

from telemetry.alerts.rule_files import parse_rules
from telemetry.cli.alerts_rules import export
from telemetry.exposition import series_name
from telemetry.model import CATALOGUE
from tests.unit.deploy.charts import CHART, VALUES, Release, declared_ports

RULES: Final = CHART / "rules" / "gpu.rules.yaml"
DASHBOARDS: Final = sorted((CHART / "dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def release() -> Release:
    return Release(VALUES["everything"])


def exported() -> str:
    return CliRunner().invoke(export, [], catch_exceptions=False).stdout


def test_the_charts_rules_are_what_telemetry_alerts_export_writes() -> None:
    assert RULES.read_text() == exported(), f"write them anew: telemetry alerts export > {RULES}"


def test_the_operator_gets_the_rule_pack_as_it_is(release: Release) -> None:
    (resource,) = release.of("PrometheusRule")
    assert resource["metadata"]["labels"]["release"] == "prometheus"
    assert resource["spec"] == yaml.safe_load(exported())
    text = yaml.safe_dump(resource["spec"], sort_keys=False)
    assert len(list(parse_rules([("rendered", text)]))) > 10


def test_prometheus_itself_takes_the_groups(release: Release, tmp_path: Path) -> None:
    promtool = Path(sys.executable).parents[1] / "servers" / "usr" / "bin" / "promtool"
    if not promtool.exists():
        pytest.skip("promtool is not there (scripts/servers.sh): Prometheus does not read the rules")
    (resource,) = release.of("PrometheusRule")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(resource["spec"]))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_process_is_scraped_on_a_port_of_its_service(release: Release) -> None:
    monitor = release.named("ServiceMonitor", "telemetry")["spec"]
    ports = {endpoint["port"] for endpoint in monitor["endpoints"]}
    assert {endpoint["path"] for endpoint in monitor["endpoints"]} == {"/metrics"}
    for service in release.of("Service"):
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        # Once: a gateway's two ports say the same.
        assert len(ports & {port["name"] for port in service["spec"]["ports"]}) == 1


def test_jobs_are_called_what_the_dashboards_ask_for(release: Release) -> None:
    compose = yaml.safe_load((CHART.parents[1] / "deploy" / "docker" / "monitoring" / "prometheus.yaml").read_text())
    scraped = {job["job_name"] for job in compose["scrape_configs"]}
    named = {
        rule["replacement"]
        for monitor in release.of("ServiceMonitor")
        for endpoint in monitor["spec"]["endpoints"]
        for rule in endpoint["relabelings"]
        if rule.get("targetLabel") == "job"
    }
    assert named == {"telemetry", "gpus"}
    assert named <= scraped
    for path in DASHBOARDS:
        for query in queries(json.loads(path.read_text())):
            for pattern in re.findall(r'job=~?"([^"]*)"', query):
                assert any(re.fullmatch(pattern, job) for job in named), query


def test_gpus_are_scraped_once_however_many_gateways_there_are(release: Release) -> None:
    monitor = release.named("ServiceMonitor", "telemetry-gpus")["spec"]
    (service,) = [
        service
        for service in release.of("Service")
        if monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["path"] == "/metrics/gpus"
    assert endpoint["honorLabels"] is True, "pod and namespace are those of the job on the GPU"
    replaced = {rule["targetLabel"]: rule["replacement"] for rule in endpoint["relabelings"] if "targetLabel" in rule}
    host, _, port = replaced["__address__"].partition(":")
    assert host == f"{service['metadata']['name']}.monitoring.svc"
    assert int(port) in {entry["port"] for entry in service["spec"]["ports"]}
    (dropped,) = [rule["regex"] for rule in endpoint["relabelings"] if rule.get("action") == "labeldrop"]
    # All that the operator adds of a pod, so that targets that are the same to Prometheus are one.
    assert set(dropped.split("|")) == {"namespace", "pod", "container", "service", "endpoint", "node"}


def test_scrapes_show_what_the_ports_ask_for(release: Release) -> None:
    secrets = {certificate["spec"]["secretName"]: certificate["spec"] for certificate in release.of("Certificate")}
    for monitor in release.of("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint["scheme"] == "https"
            assert endpoint["authorization"]["credentials"] == {"name": "who-may-what", "key": "metrics"}
            tls = endpoint["tlsConfig"]
            assert {
                tls["ca"]["secret"]["name"],
                tls["cert"]["secret"]["name"],
                tls["keySecret"]["name"],
            } <= secrets.keys()
            assert all(tls["serverName"] in certificate["dnsNames"] for certificate in secrets.values())
    plain = Release({"monitoring": {"serviceMonitor": {"enabled": True}}})
    for monitor in plain.of("ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            assert not {"scheme", "tlsConfig", "authorization"} & endpoint.keys()


def test_pods_say_where_their_metrics_are(release: Release) -> None:
    for workload in release.workloads().values():
        template = workload["spec"]["template"]
        port = int(template["metadata"]["annotations"]["prometheus.io/port"])
        ports = declared_ports(template["spec"]["containers"][0])
        assert port in (ports.get("http"), ports.get("api"))


def test_each_dashboard_is_a_config_map_that_grafanas_sidecar_finds(release: Release) -> None:
    maps = [each for each in release.of("ConfigMap") if each["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert {name: json.loads(text) for each in maps for name, text in each["data"].items()} == {
        path.name: json.loads(path.read_text()) for path in DASHBOARDS
    }
    assert all(each["metadata"]["annotations"] == {"grafana_folder": "GPUs"} for each in maps)


def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_loaded_and_its_queries_are_promql(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert queries(dashboard)
    for query in queries(dashboard):
        for variable, value in (("$__rate_interval", "1m"), ("$__interval", "1m"), ("$__range", "1h")):
            query = query.replace(variable, value)
        parse_promql(query)
    # The data source is chosen in Grafana: here and there it has another name.
    (source,) = [each for each in dashboard["templating"]["list"] if each["type"] == "datasource"]
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == f"${{{source['name']}}}"
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24


def test_the_dashboard_of_gpus_asks_only_for_metrics_that_there_are() -> None:
    def names(node: Any) -> set[str]:
        own = {node.name} if type(node).__name__ == "VectorSelector" else set()
        parts = [getattr(node, part, None) for part in ("expr", "lhs", "rhs", "args", "vector_selector")]
        flat = [part for each in parts for part in (each if isinstance(each, list) else [each]) if part is not None]
        return own.union(*(names(part) for part in flat))

    asked = {
        name
        for query in queries(json.loads((CHART / "dashboards" / "gpus.json").read_text()))
        for name in names(parse_promql(query))
    }
    assert len(asked) > 8
    assert asked <= set(map(series_name, CATALOGUE))
