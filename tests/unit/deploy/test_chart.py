"""The Helm chart, rendered for several sets of values and looked at as Kubernetes would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from telemetry.queue.core.types import GroupSettings
from telemetry.v1 import alerts_pb2, query_pb2, queue_pb2
from tests.unit.deploy.charts import CHART, CUSTOM, PROCESSES, VALUES, Release, declared_ports, helm
from tests.unit.deploy.custom_resources import SCHEMAS

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

Parse = Callable[[str, Sequence[str]], dict[str, Any]]
Listens = Callable[[str, Sequence[str]], set[int]]

KUBERNETES_VERSIONS: Final = ("1.27", "1.34")
GRPC_SERVICES: Final = {
    service.full_name
    for file in (queue_pb2, query_pb2, alerts_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
}
KEEPS: Final = ("queue", "collector", "alerts")
"""Processes with data of their own."""


@pytest.fixture(scope="module", params=VALUES)
def release(request: pytest.FixtureRequest) -> Release:
    return Release(VALUES[request.param])


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_nothing_to_complain_about(values: str) -> None:
    report = helm.lint(CHART, VALUES[values], strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_is_one_that_kubernetes_knows(release: Release, version: str) -> None:
    for manifest in release.objects:
        if manifest["kind"] in CUSTOM:
            jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_all_that_can_be_made_is_made_by_some_values() -> None:
    kinds = {manifest["kind"] for values in VALUES.values() for manifest in Release(values).objects}
    assert {
        "StatefulSet", "Deployment", "DaemonSet", "Service", "ServiceAccount", "ConfigMap", "Ingress", "NetworkPolicy",
        "PodDisruptionBudget", "HorizontalPodAutoscaler", "Pod",
    } | CUSTOM == kinds  # fmt: skip


def test_no_two_objects_have_one_name(release: Release) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in release.objects]
    assert len(names) == len(set(names))


def test_every_process_runs_and_has_a_service_of_its_name(release: Release) -> None:
    workloads = release.workloads()
    assert PROCESSES - workloads.keys() <= {"streamer", "alerts"}
    names = {service["metadata"]["name"] for service in release.of("Service")}
    assert names == {workload["metadata"]["name"] for workload in workloads.values()}
    assert all(name.endswith(f"-{process}") for process, name in zip(sorted(workloads), sorted(names), strict=True))


def test_what_must_outlive_a_pod_has_a_name_and_a_volume_of_its_own() -> None:
    workloads = Release({}).workloads()
    for process in KEEPS:
        assert workloads[process]["kind"] == "StatefulSet"
        assert workloads[process]["spec"]["replicas"] == 1
        (claim,) = workloads[process]["spec"]["volumeClaimTemplates"]
        mounts = workloads[process]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in mounts


def test_the_commands_know_every_argument(release: Release, parse: Parse) -> None:
    for process, container in release.containers().items():
        assert "command" not in container, "the program is the entry point of the image"
        assert parse(process, container["args"])["host"] == "0.0.0.0"
        if process in KEEPS:
            assert f"--data-dir={Path('/data')}" in container["args"]


def test_values_reach_the_processes(parse: Parse) -> None:
    containers = Release(VALUES["everything"]).containers()
    settings = {process: parse(process, container["args"]) for process, container in containers.items()}
    assert settings["collector"]["workers"] == 16
    assert settings["collector"]["max_entries"] == 50
    assert settings["collector"]["max_gpus"] == 5000
    assert settings["collector"]["compact_interval"] == float("inf")
    assert settings["collector"]["compact_after"] == 5400
    assert settings["collector"]["retention_raw"] == 30 * 86_400
    assert settings["collector"]["retention_1m"] == float("inf")
    assert settings["collector"]["retention_1h"] == 52 * 7 * 86_400
    assert settings["collector"]["retention_bytes"] == 3 << 39
    assert settings["alerts"]["alertmanager"] == tuple(VALUES["everything"]["alerts"]["alertmanagers"])
    assert settings["streamer"]["rate"] == 1_000_000
    assert settings["streamer"]["workers"] == 8
    assert settings["streamer"]["more_files"] == (Path("/csv/name: with #yaml.csv"),)
    assert settings["streamer"]["loop"] is False
    assert settings["streamer"]["stay"] is True
    assert settings["gateway"]["log_level"] == "warning"


def test_the_chart_says_the_same_as_the_commands_where_nothing_else_is_asked_for(parse: Parse) -> None:
    mine = parse("collector", Release({}).containers()["collector"]["args"])
    default = parse("collector", [])
    for name in ("workers", "max_entries", "compact_interval", "compact_after", "retention_bytes"):
        assert mine[name] == default[name], name
    for name in ("retention_raw", "retention_1m", "retention_1h"):
        assert mine[name] == default[name], name


def test_rules_of_ones_own_are_files_that_the_alerts_read(parse: Parse) -> None:
    release = Release(VALUES["everything"])
    rules = VALUES["everything"]["alerts"]["rules"]
    assert release.named("ConfigMap", "telemetry-rules")["data"] == rules
    settings = parse("alerts", release.containers()["alerts"]["args"])
    assert {str(path) for path in settings["rules"]} == {f"/rules/{name}" for name in rules}
    assert {"name": "rules", "configMap": {"name": "telemetry-rules"}} in release.pod("alerts")["volumes"]
    annotation = "checksum/reads"
    before, after = (
        Release({"alerts": {"rules": {"a.yaml": text}}}).workloads()["alerts"]["spec"]["template"]["metadata"]
        for text in ("groups: []", "groups: [ ]")
    )
    assert before["annotations"][annotation] != after["annotations"][annotation], "new rules start the pod anew"


def test_every_port_that_a_process_listens_on_is_declared_and_no_other(release: Release, listens: Listens) -> None:
    for process, container in release.containers().items():
        assert set(declared_ports(container).values()) == listens(process, container["args"])


def test_selectors_match_the_labels_of_their_own_pods_only(release: Release) -> None:
    for workload in release.workloads().values():
        selector = workload["spec"]["selector"]["matchLabels"]
        assert release.selected(selector) == [workload["spec"]["template"]["spec"]]
    for service in release.of("Service"):
        (pod,) = release.selected(service["spec"]["selector"])
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= declared_ports(pod["containers"][0]).keys()
    for guard in release.of("PodDisruptionBudget"):
        assert len(release.selected(guard["spec"]["selector"]["matchLabels"])) == 1
    for workload in release.of("StatefulSet"):
        assert workload["spec"]["serviceName"] == workload["metadata"]["name"]
    for _, pod in release.pods():
        for constraint in pod.get("topologySpreadConstraints", ()):
            assert release.selected(constraint["labelSelector"]["matchLabels"]) == [pod]


def test_addresses_of_other_processes_lead_to_a_port_of_theirs(release: Release) -> None:
    services = {service["metadata"]["name"]: service for service in release.of("Service")}
    expected = {"--queue": "grpc", "--collector": "grpc", "--alerts": "grpc", "--streamer-http": "http"}
    seen = set()
    for container in release.containers().values():
        for argument in container["args"]:
            flag, _, value = argument.partition("=")
            for address in value.split(",") if flag in expected else ():
                host, _, port = address.partition(":")
                service = host.rpartition(".")[2]
                ports = {entry["port"]: entry["name"] for entry in services[service]["spec"]["ports"]}
                assert ports[int(port)] == expected[flag]
                seen.add(service)
    assert seen | {name for name in services if name.endswith("-gateway")} == services.keys()


def test_the_gateway_asks_each_collector_by_the_name_of_its_pod(release: Release, parse: Parse) -> None:
    """So one that is missing is missed, which an address that stands for all that are there could not tell."""
    collector = release.workloads()["collector"]
    name, replicas = collector["metadata"]["name"], collector["spec"]["replicas"]
    asked = parse("gateway", release.containers()["gateway"]["args"])["collector"]
    assert asked == tuple(f"{name}-{number}.{name}:9092" for number in range(replicas))
    service = release.named("Service", name)["spec"]
    assert service["clusterIP"] == "None", "else pods have no names"
    assert service["publishNotReadyAddresses"] is True, "else they lose them while they recover"


def test_probes_ask_a_declared_port_and_a_service_of_our_contract() -> None:
    for process, container in Release({}).containers().items():
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            if process in KEEPS:
                assert probe["grpc"]["port"] == declared_ports(container)["grpc"]
                assert probe["grpc"]["service"] in GRPC_SERVICES | ({""} if kind == "livenessProbe" else set())
            else:
                assert probe["httpGet"]["port"] in declared_ports(container).values()
                # A gateway may be alive and have nobody to ask.
                waits = process == "gateway" and kind == "readinessProbe"
                assert probe["httpGet"]["path"] == ("/health/ready" if waits else "/health")


def test_a_long_start_is_waited_for_and_only_a_long_silence_is_death(release: Release) -> None:
    for container in release.containers().values():
        start, ready, live = (container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness"))
        assert start["periodSeconds"] * start["failureThreshold"] >= 600
        assert ready["periodSeconds"] * ready["failureThreshold"] <= 10
        assert live["periodSeconds"] * live["failureThreshold"] >= 120
        assert all(probe["timeoutSeconds"] <= probe["periodSeconds"] + 1 for probe in (start, ready, live))


def test_a_pod_has_time_to_settle_what_is_leased_to_it(release: Release) -> None:
    shutdown = yaml.safe_load((CHART / "values.yaml").read_text())["shutdown"] | release.values.get("shutdown", {})
    for process in release.workloads():
        pod = release.pod(process)
        before = 0
        if process == "gateway":
            (program, seconds) = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
            assert program == "sleep"
            assert int(seconds) == shutdown["endpointsSeconds"]
            before = int(seconds)
        assert pod["terminationGracePeriodSeconds"] == before + shutdown["ackWaitSeconds"]


def test_the_time_to_settle_is_the_queues_own_ack_wait() -> None:
    shutdown = yaml.safe_load((CHART / "values.yaml").read_text())["shutdown"]
    assert shutdown["ackWaitSeconds"] == GroupSettings(topics=("telemetry",)).ack_wait_s


def test_every_volume_mounted_exists_and_every_volume_is_mounted(release: Release) -> None:
    claims = {
        workload["metadata"]["name"]: [claim["metadata"]["name"] for claim in workload["spec"]["volumeClaimTemplates"]]
        for workload in release.workloads().values()
        if "volumeClaimTemplates" in workload["spec"]
    }
    for metadata, pod in release.pods():
        (container,) = pod["containers"]
        owner = [name for name in claims if name.endswith(f"-{metadata['labels']['app.kubernetes.io/component']}")]
        volumes = [volume["name"] for volume in pod["volumes"]] + (claims[owner[0]] if owner else [])
        assert sorted(mount["name"] for mount in container["volumeMounts"]) == sorted(volumes)
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_several_pods_of_a_process_are_spread_and_lost_one_at_a_time() -> None:
    release = Release(VALUES["everything"])
    guarded = {
        guard["metadata"]["name"]: guard["spec"]["maxUnavailable"] for guard in release.of("PodDisruptionBudget")
    }
    assert guarded == {"telemetry-gateway": 1, "telemetry-collector": 1}
    for process in ("gateway", "collector"):
        keys = [constraint["topologyKey"] for constraint in release.pod(process)["topologySpreadConstraints"]]
        assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert Release(VALUES["minimal"]).of("PodDisruptionBudget") == [], "a budget would nail a single pod to its node"


def test_the_number_of_gateways_is_the_autoscalers_when_there_is_one() -> None:
    release = Release(VALUES["everything"])
    (scaler,) = release.of("HorizontalPodAutoscaler")
    gateway = release.workloads()["gateway"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == gateway["metadata"]["name"]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 12)
    assert "replicas" not in gateway["spec"], "an upgrade would undo what the autoscaler did"
    assert Release({}).workloads()["gateway"]["spec"]["replicas"] == 2


def test_streamers_on_gpu_nodes_go_where_gpus_are() -> None:
    release = Release(VALUES["on GPU nodes"])
    streamer = release.workloads()["streamer"]
    assert streamer["kind"] == "DaemonSet"
    pod = release.pod("streamer")
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert [toleration["key"] for toleration in pod["tolerations"]] == ["nvidia.com/gpu", "maintenance"]
    assert release.pod("gateway")["nodeSelector"] == {"disk": "ssd"}


def test_images_are_those_that_docker_build_makes() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    for values, prefix, tag in (({}, "gpu-telemetry-pipeline", version), (VALUES["everything"], "example/gpu", "v9")):
        for process, container in Release(values).containers().items():
            assert container["image"] == f"{prefix}-{process}:{tag}"


def test_a_name_as_long_as_helm_allows_still_makes_valid_names() -> None:
    values = {key: value for key, value in VALUES["everything"].items() if key != "fullnameOverride"}
    for manifest in Release(values, name="a" * 53).objects:
        # 63 less the revision that a StatefulSet adds when it labels its pods.
        assert len(manifest["metadata"]["name"]) <= (63 if manifest["kind"] == "ConfigMap" else 52)


def test_the_notes_say_where_to_look() -> None:
    assert "port-forward service/trial-telemetry-pipeline-gateway 8080 8081" in Release({}).notes
    assert "WARNING" not in Release({}).notes
    assert "nothing asks who connects" in Release({}).notes
    assert "WARNING: queue, collector: persistence is off" in Release(VALUES["minimal"]).notes
    assert "https://gpus.example.org/" in Release(VALUES["everything"]).notes
    assert "nothing asks who connects" not in Release(VALUES["everything"]).notes


ALL_WELL: Final = "queue: ok, collector a:9092: ok, collector b:9092: ok, gateway: ok, alerts: ok, streamer: ok"


@pytest.mark.parametrize(
    ("states", "complaint"),
    [
        (ALL_WELL, ""),
        (ALL_WELL.replace("b:9092: ok", "b:9092: down"), "collector: 1 of 2"),
        (ALL_WELL.replace("alerts: ok, ", ""), "alerts: 0 of 1"),
    ],
)
def test_helm_test_succeeds_exactly_when_every_process_is_healthy(states: str, complaint: str) -> None:
    services = [dict(zip(("name", "state"), each.rsplit(": ", 1), strict=True)) for each in states.split(", ")]
    body = json.dumps({"services": services}).encode()

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/v1/health" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    (pod,) = Release({"collector": {"replicas": 2}}).of("Pod")
    container = pod["spec"]["containers"][0]
    url, *expected = container["args"]
    assert url == "http://trial-telemetry-pipeline-gateway:8081/api/v1/health"
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        local = f"http://127.0.0.1:{server.server_port}/api/v1/health"
        command = [sys.executable, *container["command"][1:], local, *expected]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        server.shutdown()
    assert complaint in done.stderr
    assert bool(done.returncode) == bool(complaint), done.stderr
