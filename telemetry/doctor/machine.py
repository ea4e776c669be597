"""The machine: Python and libraries, open files, the clock, GPUs."""

from __future__ import annotations

import ctypes
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Final

from telemetry import __version__
from telemetry.doctor.finding import Finding, fail, ok, warn

PACKAGE: Final = "gpu-telemetry-pipeline"
PYTHON_MIN: Final = (3, 11)
FILES_MIN: Final = 1024
"""Open files that every process may need: connections, segments, and the files of GPUs that are written at one time."""
NVIDIA_SMI_S: Final = 10.0

_STA_UNSYNC: Final = 0x0040
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?\s*([^;]*)(;.*)?")


class _Timex(ctypes.Structure):
    """``struct timex`` of Linux, as far as it is looked at; see adjtimex(2)."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    ]


def check_machine() -> Iterator[Finding]:
    """Everything that does not depend on the pipeline's settings."""
    yield _python()
    yield _libraries()
    yield _open_files()
    yield _clock()
    yield _gpus()


def _python() -> Finding:
    found = f"telemetry {__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info < PYTHON_MIN:
        return fail("python", found, "install Python 3.11 or newer and make the virtualenv anew with it")
    return ok("python", found)


def _libraries() -> Finding:
    """The installed libraries against what the package asks for."""
    try:
        requirements = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return warn("libraries", f"{PACKAGE} is not installed, only its source is there", "make dev, or pip install it")
    missing: list[str] = []
    wrong = [trouble for text in requirements if (trouble := _trouble(text, missing))]
    if wrong:
        return fail("libraries", "; ".join(wrong), "install what requirements/runtime.txt pins")
    if missing:
        remedy = "none in an image, which has what its own process needs; elsewhere pip install gpu-telemetry-pipeline"
        return warn("libraries", f"not here: {', '.join(missing)}", remedy)
    return ok("libraries", f"{len(requirements)} as asked for, grpcio {metadata.version('grpcio')} among them")


def _trouble(requirement: str, missing: list[str]) -> str:
    """What is wrong with an installed library; the name of one that is not goes to ``missing``."""
    match = _REQUIREMENT.fullmatch(requirement.strip())
    if match is None or match[3]:  # an extra, or for another platform
        return ""
    name, bounds = match[1], match[2].strip()
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        missing.append(name)
        return ""
    for bound in filter(None, bounds.split(",")):
        sign, limit = bound.strip()[:2], bound.strip().lstrip("<>=! ")
        if (sign == ">=" and _numbers(version) < _numbers(limit)) or (
            sign[0] == "<" and sign != "<=" and _numbers(version) >= _numbers(limit)
        ):
            return f"{name} is {version}, not {bounds}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < FILES_MIN:
        return warn(
            "open files",
            f"{soft} at most (hard limit {hard})",
            f"ulimit -n {FILES_MIN}, or LimitNOFILE= of the service",
        )
    return ok("open files", f"{soft} at most")


def _clock() -> Finding:
    """Whether somebody keeps the clock right: samples carry this machine's time, and alerts compare it with others'."""
    remedy = "run chronyd, systemd-timesyncd or ntpd on this machine (the host, where this is a container)"
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return warn("clock", "nobody can say whether it is kept right", remedy)
    if state < 0:
        return warn("clock", "the kernel does not say whether it is kept right", remedy)
    if timex.status & _STA_UNSYNC:
        return warn("clock", "the kernel says that nothing keeps it right", remedy)
    return ok("clock", f"kept right, to {timex.maxerror / 1e6:.3f} s at worst")


def _gpus() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ok("GPUs", "no nvidia-smi here; files and the queue can be read all the same")
    try:
        done = subprocess.run(  # noqa: S603  (the path is that of which)
            [program, "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return fail("GPUs", f"nvidia-smi does not answer: {error}", "look into dmesg for Xid errors; reload the driver")
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        return fail(
            "GPUs", f"nvidia-smi fails: {said[0] if said else done.returncode}", "see that the driver is loaded"
        )
    return ok("GPUs", f"nvidia-smi knows {len(done.stdout.split())}")
