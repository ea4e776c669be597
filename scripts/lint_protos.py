"""Lint protos/ with buf, after laying the imported google.rpc files where buf.yaml expects them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from google.rpc import status_pb2

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    buf = Path(sys.executable).parent / "buf"
    if not buf.exists():
        print("buf does not run on this platform; protos/ was not linted", file=sys.stderr)
        return 0
    target = ROOT / ".cache" / "googleapis" / "google" / "rpc"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(status_pb2.__file__).with_name("status.proto"), target)
    return subprocess.run([buf, "lint"], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
