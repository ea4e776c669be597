"""Wrong values are refused with the key that is wrong, and the schema knows every value."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
import yaml

from tests.unit.deploy.charts import CHART, VALUES, refusal

SCHEMA: Final[dict[str, Any]] = json.loads((CHART / "values.schema.json").read_text())


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"queue": {"fsync": "sometimes"}}, "/queue/fsync"),
        ({"queue": {"engnie": "disk"}}, "engnie"),
        ({"queue": {"extraArgs": ["log-level=debug"]}}, "/queue/extraArgs/0"),
        ({"queue": {"persistence": {"size": "20 GB"}}}, "/queue/persistence/size"),
        ({"queue": {"resources": {"request": {"cpu": 1}}}}, "request"),
        ({"collector": {"replicas": 0}}, "/collector/replicas"),
        ({"collector": {"workers": "4"}}, "/collector/workers"),
        ({"collector": {"retention": {"raw": "30 days"}}}, "/collector/retention/raw"),
        ({"collector": {"retention": {"bytes": "lots"}}}, "/collector/retention/bytes"),
        ({"collector": {"compactInterval": "none"}}, "/collector/compactInterval"),
        ({"gateway": {"replicas": 0}}, "/gateway/replicas"),
        ({"gateway": {"service": {"type": "clusterip"}}}, "/gateway/service/type"),
        ({"alerts": {"rules": {"../up.yaml": "groups: []"}}}, "../up.yaml"),
        ({"alerts": {"alertmanagers": ["https://me:secret@alertmanager"]}}, "/alerts/alertmanagers/0"),
        ({"alerts": {"enabled": False, "alertmanagers": ["http://alertmanager:9093"]}}, "alerts.alertmanagers"),
        ({"streamer": {"volume": {"configMap": {"name": "a"}, "emptyDir": {}}}}, "/streamer/volume"),
        ({"streamer": {"kind": "Daemonset"}}, "/streamer/kind"),
        ({"streamer": {"kind": "DaemonSet"}}, "streamer.volume is required"),
        ({"streamer": {"csv": "/csv/a.csv"}}, "streamer.volume is required"),
        ({"streamer": {"volume": {"emptyDir": {}}}}, "streamer.csv has to be a file in /csv"),
        ({"streamer": {"csv": "gpus.csv"}}, "/streamer/csv"),
        ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.host is required"),
        ({"gateway": {"autoscaling": {"enabled": True, "minReplicas": 9}}}, "gateway.autoscaling.minReplicas is more"),
        ({"gateway": {"autoscaling": {"enabled": True}, "resources": None}}, "gateway.resources"),
        ({"tls": {"enabled": True}}, "tls.existingSecret"),
        ({"tls": {"mutual": True}}, "tls.mutual"),
        ({"tls": {"enabled": True, "existingSecret": "a", "certManager": {"issuer": "b"}}}, "tls.certManager.issuer"),
        ({"tls": {"certManager": {"issuerKind": "issuer"}}}, "/tls/certManager/issuerKind"),
        ({"networkPolicy": {"allowFrom": [{"namespaceSelectr": {}}]}}, "namespaceSelectr"),
        ({"shutdown": {"ackWaitSeconds": 0}}, "/shutdown/ackWaitSeconds"),
        ({"tolerations": [{"key": "gpu", "effect": "noschedule"}]}, "/tolerations/0/effect"),
        ({"monitoring": {"serviceMonitor": {"interval": "often"}}}, "/monitoring/serviceMonitor/interval"),
    ],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_by_name(values: dict[str, Any], complaint: str) -> None:
    assert complaint in refusal(values)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref", "")
    return SCHEMA["definitions"][reference.rpartition("/")[2]] if reference else schema


def unknown(values: dict[str, Any], schema: dict[str, Any], path: str = "") -> list[str]:
    """Keys of which the schema knows nothing."""
    missing: list[str] = []
    for key, value in values.items():
        properties = schema.get("properties", {})
        if key not in properties:
            missing.append(f"{path}{key}")
        elif isinstance(value, dict) and "properties" in resolved(properties[key]):
            missing += unknown(value, resolved(properties[key]), f"{path}{key}.")
    return missing


def test_the_schema_knows_every_value_that_there_is() -> None:
    assert unknown(yaml.safe_load((CHART / "values.yaml").read_text()), SCHEMA) == []


def test_the_schema_lets_no_value_in_that_it_does_not_know() -> None:
    def open_objects(schema: Any, path: str) -> list[str]:
        if not isinstance(schema, dict):
            return []
        found = [path] if "properties" in schema and schema.get("additionalProperties") is not False else []
        for name, part in {**schema.get("properties", {}), **schema.get("definitions", {})}.items():
            found += open_objects(part, f"{path}.{name}")
        return found + open_objects(schema.get("items"), f"{path}[]")

    assert open_objects(SCHEMA, "") == []


def test_the_values_that_tests_call_everything_leave_little_out() -> None:
    """So a value that is added is also rendered with something else than its default."""
    documented = yaml.safe_load((CHART / "values.yaml").read_text())
    tried = VALUES["everything"] | {"topologyKeys": VALUES["minimal"]["topologyKeys"]}
    assert documented.keys() - tried.keys() == {"nameOverride"}
