"""Pin every dependency with its hashes in requirements/, without download addresses.

dev.txt is resolved first and bounds the others, so that one virtualenv can hold them all. Each image has a file of its
own, locked from the group of its name in pyproject.toml.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("queue", "streamer", "collector", "gateway", "alerts")
COMPILE = (
    "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url",
    "--no-annotate", "--no-header",
)  # fmt: skip


def main() -> None:
    uv = str(Path(sys.executable).parent / "uv")
    out = ROOT / "requirements"
    project = "pyproject.toml"
    dev = str(out / "dev.txt")
    for name, arguments in {
        "dev.txt": [project, "--group", "dev", "--group", "bench", "--group", "build"],
        "runtime.txt": [project, "--group", "build", "--constraint", dev],
        "docs.txt": ["--group", "docs", "--constraint", dev],
        "node.txt": ["--group", "node"],
        **{f"{name}.txt": ["--group", name, "--constraint", dev] for name in (*IMAGES, "build")},
    }.items():
        upgrade = [] if "--no-upgrade" in sys.argv else ["--upgrade"]
        subprocess.run([uv, *COMPILE, *arguments, *upgrade, "--output-file", str(out / name)], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
