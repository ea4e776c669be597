"""The Helm chart, rendered by the real engine for several sets of values and looked at as Kubernetes would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
import yaml

from telemetry.v1 import query_pb2, queue_pb2

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform: no chart is rendered")
kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")

Parse = Callable[[str, Sequence[str]], dict[str, Any]]
Listens = Callable[[str, Sequence[str]], set[int]]
Manifest = dict[str, Any]

CHART: Final = Path(__file__).resolve().parents[3] / "helm" / "telemetry-pipeline"
KUBERNETES_VERSIONS: Final = ("1.27", "1.34")
PROCESSES: Final = {"queue", "collector", "streamer", "gateway"}
GRPC_SERVICES: Final = {
    service.full_name for file in (queue_pb2, query_pb2) for service in file.DESCRIPTOR.services_by_name.values()
}
VALUES: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "minimal": {
        "queue": {"persistence": {"enabled": False}, "resources": {}},
        "collector": {"persistence": {"enabled": False}, "resources": {}},
        "streamer": {"enabled": False},
        "gateway": {"replicas": 1, "resources": {}},
        "networkPolicy": {"enabled": False},
    },
    "everything": {
        "fullnameOverride": "telemetry",
        "image": {"repository": "example/gpu", "tag": "v9", "pullPolicy": "Always", "pullSecrets": [{"name": "pull"}]},
        "queue": {
            "fsync": "interval:50",
            "extraArgs": ["--log-level=debug"],
            "persistence": {"size": "1Ti", "storageClass": "fast"},
        },
        "collector": {
            "workers": 16,
            "extraArgs": ["--max-entries=50", "--log-level=debug"],
            "persistence": {"size": "2Ti", "storageClass": "fast"},
        },
        "streamer": {
            "csv": "/csv/name: with #yaml.csv",
            "volume": {"configMap": {"name": "my-csv"}},
            "loop": False,
            "rate": 1_000_000,
            "extraArgs": ["--workers=8"],
        },
        "gateway": {
            "replicas": 5,
            "extraArgs": ["--log-level=warning"],
            "service": {"type": "LoadBalancer"},
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "host": "gpus.example.org",
                "tlsSecret": "gpus-tls",
                "annotations": {"example.org/auth": "required"},
            },
        },
        "networkPolicy": {"allowFrom": [{"namespaceSelector": {"matchLabels": {"gpu": "yes"}}}]},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    },
}


class Release:
    """The objects that a set of values makes."""

    def __init__(self, values: dict[str, Any]) -> None:
        with helm.Chart.load(CHART) as chart:
            files = chart.render(values, name="trial", namespace="monitoring")
        self.notes: str = files.pop(f"{CHART.name}/templates/NOTES.txt")
        self.objects: list[Manifest] = [
            document for text in files.values() for document in yaml.safe_load_all(text) if document
        ]

    def of(self, *kinds: str) -> list[Manifest]:
        return [manifest for manifest in self.objects if manifest["kind"] in kinds]

    def workloads(self) -> dict[str, Manifest]:
        """The StatefulSets and Deployments, each under its process."""
        found = self.of("StatefulSet", "Deployment")
        return {workload["spec"]["template"]["spec"]["containers"][0]["name"]: workload for workload in found}

    def containers(self) -> dict[str, Manifest]:
        """The one container of each of them."""
        return {
            process: workload["spec"]["template"]["spec"]["containers"][0]
            for process, workload in self.workloads().items()
        }

    def pods(self) -> Iterator[tuple[Manifest, Manifest]]:
        """The metadata and the spec of every pod, that of ``helm test`` too."""
        for workload in self.workloads().values():
            yield workload["spec"]["template"]["metadata"], workload["spec"]["template"]["spec"]
        for pod in self.of("Pod"):
            yield pod["metadata"], pod["spec"]

    def selected(self, selector: dict[str, str]) -> list[Manifest]:
        """The specs of the pods with these labels."""
        return [spec for metadata, spec in self.pods() if selector.items() <= metadata["labels"].items()]


@pytest.fixture(scope="module", params=VALUES)
def release(request: pytest.FixtureRequest) -> Release:
    return Release(VALUES[request.param])


def declared_ports(container: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def test_helm_finds_nothing_to_complain_about() -> None:
    report = helm.lint(CHART, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
def test_every_object_is_one_that_kubernetes_knows(release: Release, version: str) -> None:
    for manifest in release.objects:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_every_process_runs_and_has_a_service_of_its_name(release: Release) -> None:
    workloads = release.workloads()
    assert PROCESSES - workloads.keys() <= {"streamer"}
    names = {service["metadata"]["name"] for service in release.of("Service")}
    assert names == {workload["metadata"]["name"] for workload in workloads.values()}
    assert all(name.endswith(f"-{process}") for process, name in zip(sorted(workloads), sorted(names), strict=True))


def test_what_must_outlive_a_pod_has_a_name_and_a_volume_of_its_own() -> None:
    workloads = Release({}).workloads()
    for process in ("queue", "collector"):
        assert workloads[process]["kind"] == "StatefulSet"
        assert workloads[process]["spec"]["replicas"] == 1
        (claim,) = workloads[process]["spec"]["volumeClaimTemplates"]
        mounts = workloads[process]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        assert {"name": claim["metadata"]["name"], "mountPath": "/data"} in mounts


def test_the_commands_know_every_argument(release: Release, parse: Parse) -> None:
    for process, container in release.containers().items():
        assert "command" not in container, "the program is the entry point of the image"
        settings = parse(process, container["args"])
        assert settings["host"] == "0.0.0.0"
        assert settings["insecure"] is True


def test_values_reach_the_processes(parse: Parse) -> None:
    settings = {
        process: parse(process, container["args"])
        for process, container in Release(VALUES["everything"]).containers().items()
    }
    assert settings["collector"]["workers"] == 16
    assert settings["collector"]["max_entries"] == 50
    assert settings["streamer"]["rate"] == 1_000_000
    assert settings["streamer"]["workers"] == 8
    assert settings["streamer"]["more_files"] == (Path("/csv/name: with #yaml.csv"),)
    assert settings["streamer"]["loop"] is False
    assert settings["streamer"]["stay"] is True
    assert settings["gateway"]["log_level"] == "warning"


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
    for policy in release.of("NetworkPolicy"):
        (pod,) = release.selected(policy["spec"]["podSelector"]["matchLabels"])
        allowed = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert allowed == set(declared_ports(pod["containers"][0]).values())
    for workload in release.of("StatefulSet"):
        assert workload["spec"]["serviceName"] == workload["metadata"]["name"]


def test_addresses_of_other_processes_lead_to_a_port_of_theirs(release: Release) -> None:
    services = {service["metadata"]["name"]: service for service in release.of("Service")}
    expected = {"--queue": "grpc", "--collector": "grpc", "--streamer-http": "http"}
    seen = set()
    for container in release.containers().values():
        for argument in container["args"]:
            flag, _, value = argument.partition("=")
            if flag in expected:
                host, _, port = value.partition(":")
                ports = {entry["port"]: entry["name"] for entry in services[host]["spec"]["ports"]}
                assert ports[int(port)] == expected[flag]
                seen.add(host)
    assert seen | {name for name in services if name.endswith("-gateway")} == services.keys()


def test_probes_ask_a_declared_port_and_a_service_of_our_contract(release: Release) -> None:
    for process, container in release.containers().items():
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            if process in ("queue", "collector"):
                assert probe["grpc"]["port"] == declared_ports(container)["grpc"]
                assert probe["grpc"]["service"] in GRPC_SERVICES
            else:
                assert probe["httpGet"]["port"] in declared_ports(container)
                assert probe["httpGet"]["path"] == "/health"


def test_pods_stay_within_the_restricted_security_standard(release: Release) -> None:
    for _, pod in release.pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] == release.of("ServiceAccount")[0]["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_kubernetes_puts_no_settings_into_the_environment_by_itself(release: Release) -> None:
    """A service called ``telemetry-queue`` would otherwise set ``TELEMETRY_QUEUE_PORT`` in every pod."""
    assert all(pod["enableServiceLinks"] is False for _, pod in release.pods())


def test_every_volume_mounted_exists_and_every_volume_is_mounted(release: Release) -> None:
    for workload in release.workloads().values():
        pod = workload["spec"]["template"]["spec"]
        claims = [claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])]
        volumes = claims + [volume["name"] for volume in pod["volumes"]]
        assert sorted(mount["name"] for mount in pod["containers"][0]["volumeMounts"]) == sorted(volumes)
        assert "/tmp" in [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]


def test_images_are_those_that_docker_build_makes() -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    for values, prefix, tag in (({}, "gpu-telemetry-pipeline", version), (VALUES["everything"], "example/gpu", "v9")):
        for process, container in Release(values).containers().items():
            assert container["image"] == f"{prefix}-{process}:{tag}"


def test_a_name_as_long_as_helm_allows_still_makes_valid_names() -> None:
    with helm.Chart.load(CHART) as chart:
        files = chart.render({}, name="a" * 53, namespace="monitoring")
    for text in files.values():
        for manifest in yaml.safe_load_all(text) if "kind:" in text else ():
            # 63 less the revision that a StatefulSet adds when it labels its pods.
            assert manifest is None or len(manifest["metadata"]["name"]) <= 52


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"queue": {"fsync": "sometimes"}}, "fsync"),
        ({"queue": {"engnie": "disk"}}, "engnie"),
        ({"gateway": {"replicas": 0}}, "replicas"),
        ({"streamer": {"volume": {"configMap": {"name": "a"}, "emptyDir": {}}}}, "volume"),
        ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.host"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(values: dict[str, Any], complaint: str) -> None:
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmError, match=complaint):
        chart.render(values, name="trial")


def test_the_notes_say_where_to_look() -> None:
    assert "port-forward service/trial-telemetry-pipeline-gateway 8080 8081" in Release({}).notes
    assert "WARNING" not in Release({}).notes
    assert "the queue and the collector" in Release(VALUES["minimal"]).notes
    assert "https://gpus.example.org/" in Release(VALUES["everything"]).notes


@pytest.mark.parametrize(("collector", "code"), [("ok", 0), ("down", 1)])
def test_helm_test_succeeds_exactly_when_every_process_is_healthy(collector: str, code: int) -> None:
    states = {"queue": "ok", "collector": collector, "gateway": "ok", "streamer": "ok"}
    body = json.dumps({"services": [{"name": name, "state": state} for name, state in states.items()]}).encode()

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/v1/health" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    (pod,) = Release({}).of("Pod")
    container = pod["spec"]["containers"][0]
    url, *expected = container["args"]
    assert url == "http://trial-telemetry-pipeline-gateway:8081/api/v1/health"
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        local = f"http://127.0.0.1:{server.server_port}/api/v1/health"
        command = [sys.executable, *container["command"][1:], local, *expected]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        server.shutdown()
    assert done.returncode == code, done.stderr
