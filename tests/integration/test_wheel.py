"""The wheel, installed with nothing but what it asks for, far from the checkout."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Final

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.e2e.processes import PORTS, ROOT, free_ports, wait_until

PAGE: Final = ROOT / "gateway" / "static" / "index.html"


def run(*command: object, folder: Path) -> None:
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def closure(names: list[str]) -> list[metadata.Distribution]:
    """These distributions and all that they ask for, as they are installed here."""
    found: dict[str, metadata.Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return list(found.values())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtualenv with the wheel, and of this one's packages only those that the wheel asks for."""
    if not PAGE.exists():
        pytest.skip("the dashboard is not built (make web), so a wheel would have no page")
    folder = tmp_path_factory.mktemp("wheel")
    # As `make wheel` does it: the source distribution first, and the wheel from that.
    build = (sys.executable, "-m", "uv", "build", "--quiet", "--no-build-isolation", "--python", sys.executable)
    run(*build, "--out-dir", folder / "dist", folder=ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    environment = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment, folder=folder)
    run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", environment / "bin" / "python"),
        *("install", "--quiet", "--no-deps", "--no-index", wheel),
        folder=folder,
    )
    target = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (information,) = target.glob("gpu_telemetry_pipeline-*.dist-info")
    asked_for = metadata.Distribution.at(information).requires or []
    for distribution in closure([Requirement(text).name for text in asked_for]):
        for file in distribution.files or ():
            top = target / file.parts[0]
            if file.parts[0] != ".." and not top.exists():
                top.symlink_to(str(distribution.locate_file(file.parts[0])))
    return environment


def test_telemetry_up_needs_nothing_but_the_wheel_and_brings_page_and_sample(installed: Path, tmp_path: Path) -> None:
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    flags = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    log = tmp_path / "up.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [installed / "bin" / "telemetry", "up", *flags], cwd=tmp_path, env=environment, stdout=out, stderr=out
        )
    try:
        page = f"http://127.0.0.1:{ports['dashboard']}/"
        with httpx.Client(timeout=10) as client:
            html = wait_until(lambda: client.get(page).raise_for_status().text, "the page is served")
            scripts = re.findall(r'<script[^>]* src="/?([^"]+)"', html)
            assert scripts
            for script in scripts:
                answer = client.get(page + script).raise_for_status()
                assert answer.headers["content-type"].startswith("text/javascript")
            wait_until(
                lambda: len(client.get(f"{page}api/v1/gpus", params={"page_size": 100}).json()["gpus"]) == 32,
                "all GPUs of the sample are listed",
            )
        assert {path.name for path in (tmp_path / "data").iterdir() if path.is_dir()} >= {"queue", "store", "alerts"}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
