"""What the chart's pods may do, who may reach them, and how they know each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.unit.deploy.charts import VALUES, Release, declared_ports

Parse = Callable[[str, Sequence[str]], dict[str, Any]]

RESTRICTED_VOLUMES: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
"""What Pod Security's "restricted" allows."""

TLS: Final = {"enabled": True, "existingSecret": "made-elsewhere"}


@pytest.fixture(scope="module", params=VALUES)
def release(request: pytest.FixtureRequest) -> Release:
    return Release(VALUES[request.param])


def test_pods_stay_within_the_restricted_security_standard(release: Release) -> None:
    for _, pod in release.pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] == release.of("ServiceAccount")[0]["metadata"]["name"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for volume in pod["volumes"]:
            assert volume.keys() - {"name"} <= RESTRICTED_VOLUMES
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_kubernetes_puts_no_settings_into_the_environment_by_itself(release: Release) -> None:
    """A service called ``telemetry-queue`` would otherwise set ``TELEMETRY_QUEUE_PORT`` in every pod."""
    assert all(pod["enableServiceLinks"] is False for _, pod in release.pods())


def test_a_process_listens_without_any_check_only_when_none_is_given(release: Release, parse: Parse) -> None:
    checks = bool(release.values.get("tls")) or bool(release.values.get("tokens"))
    for process, container in release.containers().items():
        assert parse(process, container["args"])["insecure"] is not checks


@pytest.mark.parametrize("mutual", [False, True])
def test_with_tls_every_process_shows_a_certificate_and_checks_those_of_others(mutual: bool, parse: Parse) -> None:
    release = Release({"tls": TLS | {"mutual": mutual}})
    for process, container in release.containers().items():
        settings = parse(process, container["args"])
        assert (settings["tls_cert"], settings["tls_key"]) == (Path("/tls/tls.crt"), Path("/tls/tls.key"))
        asked_for = mutual and process != "gateway"
        assert settings["tls_client_ca"] == (Path("/tls/ca.crt") if asked_for else None)
        if process != "queue":
            assert settings["ca"] == Path("/tls/ca.crt")
            assert settings["client_cert"] == (Path("/tls/tls.crt") if mutual else None)
            assert settings["client_key"] == (Path("/tls/tls.key") if mutual else None)
        volumes = {volume["name"]: volume for volume in release.pod(process)["volumes"]}
        assert volumes["tls"]["secret"]["secretName"] == "made-elsewhere"


def test_probes_ask_in_a_way_that_the_port_understands() -> None:
    """Kubernetes' gRPC probes know no TLS, and its HTTPS probes have no certificate to show."""
    for container in Release({"tls": TLS}).containers().values():
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container[kind]["httpGet"]
            assert asked["scheme"] == "HTTPS"
            assert asked["path"].startswith("/health")
            assert asked["port"] in {port for name, port in declared_ports(container).items() if name != "grpc"}
    for process, container in Release({"tls": TLS | {"mutual": True}}).containers().items():
        if process == "gateway":
            assert container["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"
            continue
        *program, url, certificate, key = container["readinessProbe"]["exec"]["command"]
        assert program == ["python", "-SE", "/opt/telemetry/healthcheck.py"]
        assert url == f"https://127.0.0.1:{declared_ports(container)['http']}/health"
        assert (certificate, key) == ("/tls/tls.crt", "/tls/tls.key")


def test_certificates_are_for_every_name_that_others_connect_to(parse: Parse) -> None:
    release = Release(VALUES["everything"])
    certificates = {certificate["metadata"]["name"]: certificate["spec"] for certificate in release.of("Certificate")}
    names = {name: set(spec["dnsNames"]) for name, spec in certificates.items()}
    for process, container in release.containers().items():
        workload = release.workloads()[process]["metadata"]["name"]
        volumes = {volume["name"]: volume for volume in release.pod(process)["volumes"]}
        assert volumes["tls"]["secret"]["secretName"] == certificates[workload]["secretName"]
        for argument in container["args"]:
            flag, _, value = argument.partition("=")
            if flag in ("--queue", "--collector", "--alerts", "--streamer-http"):
                for address in value.split(","):
                    host = address.partition(":")[0]
                    assert host in names[host.rpartition(".")[2]], f"{process} connects to {address}"
    (test,) = release.of("Pod")
    host = test["spec"]["containers"][0]["args"][0].removeprefix("https://").partition(":")[0]
    assert host in names[host]


def test_a_pod_gets_its_own_token_and_no_other() -> None:
    release = Release({"tokens": {"existingSecret": "who-may-what"}})
    for metadata, pod in release.pods():
        process = metadata["labels"]["app.kubernetes.io/component"]
        (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert secret["secretName"] == "who-may-what"
        keys = {item["key"]: item["path"] for item in secret["items"]}
        expected = {} if process == "test" else {"tokens": "tokens"}
        if process != "queue":
            expected["metrics" if process == "test" else process] = "token"
        assert keys == expected


def test_with_tokens_every_process_asks_for_one_and_shows_its_own(parse: Parse) -> None:
    for process, container in Release({"tokens": {"existingSecret": "who-may-what"}}).containers().items():
        settings = parse(process, container["args"])
        assert settings["tokens"] == Path("/tokens/tokens")
        if process != "queue":
            assert settings["token_file"] == Path("/tokens/token")


def test_addresses_of_webhooks_are_no_arguments_which_everybody_could_read() -> None:
    container = Release(VALUES["everything"]).containers()["alerts"]
    assert container["env"] == [
        {"name": "TELEMETRY_ALERTS_WEBHOOK", "valueFrom": {"secretKeyRef": {"name": "pager", "key": "urls"}}}
    ]
    assert not any("webhook" in argument for argument in container["args"])


def test_every_port_has_a_policy_and_grpc_is_for_the_release_alone(release: Release) -> None:
    policies = release.of("NetworkPolicy")
    if not release.values.get("networkPolicy", {}).get("enabled", True):
        assert policies == []
        return
    assert len(policies) == len(release.workloads())
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        (pod,) = release.selected(policy["spec"]["podSelector"]["matchLabels"])
        ports = declared_ports(pod["containers"][0])
        rules = {port["port"]: rule for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert rules.keys() == set(ports.values())
        ours, *others = rules[ports.get("grpc", next(iter(ports.values())))].get("from", [None])
        if "grpc" in ports:
            assert others == release.values.get("networkPolicy", {}).get("allowFrom", [])
            assert len(release.selected(ours["podSelector"]["matchLabels"])) == len(list(release.pods()))


def test_pods_reach_each_other_and_names_and_only_alerts_reach_the_world() -> None:
    release = Release(VALUES["everything"])
    for policy in release.of("NetworkPolicy"):
        egress = policy["spec"]["egress"]
        if policy["metadata"]["name"].endswith("-alerts"):
            assert egress == [{}]
            continue
        (ours, traces), names = egress[0]["to"], egress[1]
        assert len(release.selected(ours["podSelector"]["matchLabels"])) == len(list(release.pods()))
        assert traces == {"namespaceSelector": {"matchLabels": {"traces": "yes"}}}
        assert {port["port"] for port in names["ports"]} == {53}


def test_who_may_look_is_said_by_gateway_from() -> None:
    for values, expected in ((VALUES["default"], None), (VALUES["everything"], [{"ipBlock": {"cidr": "10.0.0.0/8"}}])):
        release = Release(values)
        name = release.workloads()["gateway"]["metadata"]["name"]
        (rule,) = release.named("NetworkPolicy", name)["spec"]["ingress"]
        assert rule.get("from", [None])[1:] == (expected or [])
        assert ("from" in rule) is bool(expected)
