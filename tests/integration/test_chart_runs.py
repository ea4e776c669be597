"""The chart's arguments, probes, tokens and test, run on this machine: two collectors, mTLS and tokens everywhere."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from telemetry.cli.token import token
from tests.e2e.processes import ROOT, free_ports, wait_until
from tests.security.certificates import Authority, Pair
from tests.unit.deploy.charts import Release, declared_ports

SECRET: Final = "telemetry-tokens"
VALUES: Final[dict[str, Any]] = {
    "tls": {"enabled": True, "mutual": True, "existingSecret": "certificates"},
    "tokens": {"existingSecret": SECRET},
    "collector": {"replicas": 2, "workers": 2},
}
HEALTHCHECK: Final = ROOT / "deploy" / "docker" / "healthcheck.py"


@dataclass(slots=True)
class Pod:
    """A container of the chart as a process of this machine.

    Attributes:
        process: what it runs.
        folder: what stands for the root of its file system.
        ports: where it listens, for each port that the chart says.
        container: what the chart says.
    """

    process: str
    folder: Path
    ports: dict[int, int]
    container: dict[str, Any]
    running: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "log"


def here(text: str, pod: Pod, pods: dict[str, Pod]) -> str:
    """What the chart says with the paths, ports and addresses of this machine."""
    flag, equals, value = text.partition("=")
    if flag.endswith("-port"):
        return f"{flag}={pod.ports[int(value)]}"
    for folder in ("tls", "tokens", "data"):
        text = re.sub(rf"(?<![\w.])/{folder}(?![\w-])", str(pod.folder / folder), text)
    if re.fullmatch(r"[-\w.]+:\d+(,[-\w.]+:\d+)*", value):
        addresses = (address.partition(":") for address in value.split(","))
        return flag + equals + ",".join(f"localhost:{pods[host].ports[int(port)]}" for host, _, port in addresses)
    return text


def mount_secrets(pod: Pod, volumes: list[dict[str, Any]], authority: Authority, secret: Path) -> None:
    """Lay certificates and tokens where the pod finds them, as the chart's volumes say."""
    for volume in volumes:
        if "secret" in volume:
            place = pod.folder / volume["name"]
            place.mkdir()
            if volume["secret"]["secretName"] == SECRET:
                for item in volume["secret"]["items"]:
                    (place / item["path"]).write_bytes((secret / item["key"]).read_bytes())
            else:
                authority.sign(pod.process, into=Pair(place / "tls.crt", place / "tls.key"))
                (place / "ca.crt").write_bytes(authority.path.read_bytes())


def make_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run what docs/deployment.md says, up to `kubectl`."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    page = (ROOT / "docs" / "deployment.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^telemetry token (create .*) > (\w+)$", page, re.MULTILINE)
    for arguments, file in commands:
        done = CliRunner().invoke(token, shlex.split(arguments), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        Path(file).write_text(done.stdout)
    (created,) = re.findall(rf"^kubectl .* create secret generic {SECRET} (.*)$", page, re.MULTILINE)
    named = re.findall(r"--from-file=(\w+)", created)
    assert sorted(named) == sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture
def pods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Pod]]:
    """Every pod of the chart, running, each under the name by which others know it."""
    release = Release(VALUES)
    (tmp_path / "certificates").mkdir()
    authority = Authority(tmp_path / "certificates")
    make_tokens(tmp_path / "secret", monkeypatch)
    found: dict[str, Pod] = {}
    for process, workload in release.workloads().items():
        name = workload["metadata"]["name"]
        replicas = workload["spec"].get("replicas", 1) if process == "collector" else 1
        for number in range(replicas):
            host = f"{name}-{number}.{name}" if process == "collector" else name
            folder = tmp_path / host
            folder.mkdir()
            container = release.containers()[process]
            declared = list(declared_ports(container).values())
            pod = Pod(process, folder, dict(zip(declared, free_ports(len(declared)), strict=True)), container)
            mount_secrets(pod, release.pod(process)["volumes"], authority, tmp_path / "secret")
            found[host] = pod
    (test,) = release.of("Pod")
    pod = Pod("test", tmp_path / "test", {}, test["spec"]["containers"][0])
    pod.folder.mkdir()
    mount_secrets(pod, test["spec"]["volumes"], authority, tmp_path / "secret")
    for each in found.values():
        arguments = [here(argument, each, found) for argument in each.container["args"]]
        sample = ROOT / "examples" / "dcgm_sample.csv.gz"
        arguments = [
            argument.replace("/opt/telemetry/examples/dcgm_sample.csv.gz", str(sample)) for argument in arguments
        ]
        serve = ["alerts", "serve"] if each.process == "alerts" else [each.process]
        with each.log.open("wb") as log:
            command = [sys.executable, "-m", "telemetry", *serve, *arguments]
            each.running = subprocess.Popen(command, cwd=each.folder, stdout=log, stderr=log)
    yield {**found, "test": pod}
    for each in found.values():
        if each.running is not None and each.running.poll() is None:
            each.running.kill()
            each.running.wait()


def probe(pod: Pod, kind: str) -> subprocess.CompletedProcess[str]:
    """Ask what a probe asks."""
    asked = pod.container[kind]
    if "exec" in asked:
        program, flags, script, *arguments = asked["exec"]["command"]
        assert (program, script) == ("python", "/opt/telemetry/healthcheck.py")
    else:
        flags, arguments = "-SE", [f"https://127.0.0.1:{asked['httpGet']['port']}{asked['httpGet']['path']}"]
    arguments = [
        re.sub(r":(\d+)/", lambda port: f":{pod.ports[int(port[1])]}/", here(argument, pod, {}))
        for argument in arguments
    ]
    command = [sys.executable, flags, str(HEALTHCHECK), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def succeeds(pod: Pod, kind: str) -> bool:
    assert pod.running is not None
    if pod.running.poll() is not None:
        pytest.fail(f"{pod.process} has ended:\n{pod.log.read_text()[-2000:]}")
    asked = probe(pod, kind)
    assert asked.returncode == 0, asked.stderr
    return True


def test_what_the_chart_says_runs_is_probed_tested_and_stopped(pods: dict[str, Pod]) -> None:
    test = pods.pop("test")
    for host, pod in pods.items():
        assert pod.running is not None
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            wait_until(lambda pod=pod, kind=kind: succeeds(pod, kind), f"{kind} of {host} succeeds")  # type: ignore[misc]

    (gateway,) = [pod for pod in pods.values() if pod.process == "gateway"]
    python, option, program = test.container["command"]
    url, *expected = test.container["args"]
    assert (python, option) == ("python", "-c")
    for folder in ("tls", "tokens"):
        program = program.replace(f'"/{folder}/', f'"{test.folder}/{folder}/')
    url = re.sub(r"//[^/]+/", f"//localhost:{gateway.ports[8081]}/", url)

    def tested() -> bool:
        command = [sys.executable, "-c", program, url, *expected]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return True

    wait_until(tested, "helm test finds everything healthy")

    for pod in pods.values():
        assert pod.running is not None
        pod.running.send_signal(signal.SIGTERM)
    for host, pod in pods.items():
        assert pod.running is not None
        assert pod.running.wait(timeout=60) == 0, f"{host}\n{pod.log.read_text()[-2000:]}"
        text = pod.log.read_text()
        assert "Traceback" not in text, text[-4000:]
        assert '"level":"error"' not in text, text[-4000:]
        assert "PERMISSION_DENIED" not in text, text[-4000:]
        for secret in (test.folder.parent / "secret").iterdir():
            if secret.name not in ("tokens", ".tokens.lock"):
                assert secret.read_text().strip() not in text
