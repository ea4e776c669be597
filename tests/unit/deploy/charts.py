"""The Helm chart rendered by the real engine, and the sets of values that its tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="helm-python-sdk has no wheel for this platform: no chart is rendered")

Manifest = dict[str, Any]

CHART: Final = Path(__file__).resolve().parents[3] / "helm" / "telemetry-pipeline"
PROCESSES: Final = {"queue", "collector", "streamer", "gateway", "alerts"}
CUSTOM: Final = {"ServiceMonitor", "PrometheusRule", "Certificate"}
"""Kinds that the Prometheus operator and cert-manager bring."""

VALUES: Final[dict[str, dict[str, Any]]] = {
    "default": {},
    "minimal": {
        "queue": {"persistence": {"enabled": False}, "resources": {}},
        "collector": {"persistence": {"enabled": False}, "resources": {}},
        "alerts": {"enabled": False},
        "streamer": {"enabled": False},
        "gateway": {"replicas": 1, "resources": {}},
        "networkPolicy": {"enabled": False},
        "topologyKeys": [],
    },
    "everything": {
        "fullnameOverride": "telemetry",
        "image": {"repository": "example/gpu", "tag": "v9", "pullPolicy": "Always", "pullSecrets": [{"name": "pull"}]},
        "tls": {"enabled": True, "mutual": True, "certManager": {"issuer": "ca", "issuerKind": "ClusterIssuer"}},
        "tokens": {"existingSecret": "who-may-what"},
        "queue": {
            "fsync": "interval:50",
            "extraArgs": ["--log-level=debug"],
            "persistence": {"size": "1Ti", "storageClass": "fast"},
        },
        "collector": {
            "replicas": 3,
            "workers": 16,
            "maxEntries": 50,
            "compactInterval": "0",
            "compactAfter": "1h30m",
            "retention": {"raw": "30d", "minutes": "none", "hours": "52w", "bytes": "1.5TiB"},
            "extraArgs": ["--max-gpus=5000", "--log-level=debug"],
            "persistence": {"size": "2Ti", "storageClass": "fast"},
        },
        "alerts": {
            "rules": {"team.yaml": "groups: []\n", "other.yaml": "groups:\n  - name: a\n    rules: []\n"},
            "alertmanagers": ["http://alertmanager-operated.monitoring:9093", "https://other.example.org"],
            "webhooksSecret": "pager",
            "extraArgs": ["--log-level=error"],
        },
        "streamer": {
            "csv": "/csv/name: with #yaml.csv",
            "volume": {"configMap": {"name": "my-csv"}},
            "loop": False,
            "rate": 1_000_000,
            "extraArgs": ["--workers=8"],
        },
        "gateway": {
            "autoscaling": {"enabled": True, "maxReplicas": 12},
            "extraArgs": ["--log-level=warning"],
            "service": {"type": "LoadBalancer", "annotations": {"example.org/scheme": "internal"}},
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "host": "gpus.example.org",
                "tlsSecret": "gpus-tls",
                "annotations": {"nginx.ingress.kubernetes.io/backend-protocol": "HTTPS"},
            },
        },
        "monitoring": {
            "serviceMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "GPUs"}},
        },
        "networkPolicy": {
            "allowFrom": [{"namespaceSelector": {"matchLabels": {"gpu": "yes"}}}],
            "gatewayFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "egressTo": [{"namespaceSelector": {"matchLabels": {"traces": "yes"}}}],
        },
        "shutdown": {"endpointsSeconds": 12, "ackWaitSeconds": 90},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    },
    "on GPU nodes": {
        "tls": {"enabled": True, "existingSecret": "made-elsewhere"},
        "collector": {"replicas": 2},
        "streamer": {
            "kind": "DaemonSet",
            "csv": "/csv/dcgm.csv",
            "volume": {"persistentVolumeClaim": {"claimName": "logs"}},
            "loop": False,
        },
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "maintenance", "operator": "Exists"}],
    },
}


class Release:
    """The objects that a set of values makes."""

    def __init__(self, values: dict[str, Any], name: str = "trial") -> None:
        with helm.Chart.load(CHART) as chart:
            files = chart.render(values, name=name, namespace="monitoring")
        self.values = values
        self.notes: str = files.pop(f"{CHART.name}/templates/NOTES.txt")
        self.objects: list[Manifest] = [
            document for text in files.values() for document in yaml.safe_load_all(text) if document
        ]

    def of(self, *kinds: str) -> list[Manifest]:
        return [manifest for manifest in self.objects if manifest["kind"] in kinds]

    def named(self, kind: str, name: str) -> Manifest:
        (found,) = [manifest for manifest in self.of(kind) if manifest["metadata"]["name"] == name]
        return found

    def workloads(self) -> dict[str, Manifest]:
        """The StatefulSets, Deployments and DaemonSets, each under its process."""
        found = self.of("StatefulSet", "Deployment", "DaemonSet")
        return {workload["spec"]["template"]["spec"]["containers"][0]["name"]: workload for workload in found}

    def pod(self, process: str) -> Manifest:
        spec = self.workloads()[process]["spec"]["template"]["spec"]
        assert isinstance(spec, dict)
        return spec

    def containers(self) -> dict[str, Manifest]:
        """The one container of each of them."""
        return {process: self.pod(process)["containers"][0] for process in self.workloads()}

    def pods(self) -> Iterator[tuple[Manifest, Manifest]]:
        """The metadata and the spec of every pod, that of ``helm test`` too."""
        for workload in self.workloads().values():
            yield workload["spec"]["template"]["metadata"], workload["spec"]["template"]["spec"]
        for pod in self.of("Pod"):
            yield pod["metadata"], pod["spec"]

    def selected(self, selector: dict[str, str]) -> list[Manifest]:
        """The specs of the pods with these labels."""
        return [spec for metadata, spec in self.pods() if selector.items() <= metadata["labels"].items()]


def refusal(values: dict[str, Any]) -> str:
    """Why the chart takes none of these values; it must not take them."""
    with helm.Chart.load(CHART) as chart, pytest.raises(helm.HelmError) as raised:
        chart.render(values, name="trial")
    return str(raised.value)


def declared_ports(container: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}
