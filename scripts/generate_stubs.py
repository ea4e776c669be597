"""Generate the Python stubs from the .proto files, or with --check say which of them are stale.

The stubs are committed so that neither a user nor a build needs a compiler. They are made with the lowest
grpcio-tools that the project supports, because generated code refuses to run on an older runtime.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = sorted((ROOT / "protos").rglob("*.proto"))
PRIVATE = [ROOT / "telemetry" / "queue" / "wire.proto"]


def generate(out: Path) -> None:
    """Write stubs, gRPC stubs and type stubs for every .proto file below ``out``.

    Raises:
        SystemExit: if the compiler refuses a file; it has printed why.
    """
    include = [
        f"-I{ROOT / 'protos'}",
        f"-I{ROOT}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"-I{Path(status_pb2.__file__).parents[2]}",
    ]
    messages = [f"--python_out={out}", f"--mypy_out={out}"]
    services = [f"--grpc_python_out={out}", f"--mypy_grpc_out={out}"]
    for arguments in (
        [*include, *messages, *services, *map(str, PUBLIC)],
        [*include, *messages, *map(str, PRIVATE)],
    ):
        if protoc.main(["protoc", *arguments]) != 0:
            raise SystemExit(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    # The plug-ins lie beside the interpreter of the virtual environment, which need not be activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    parser.add_argument("--check", action="store_true", help="compare with what is committed; write nothing")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as directory:
        fresh = Path(directory)
        generate(fresh)
        names = sorted(path.relative_to(fresh) for path in fresh.rglob("*.py*") if path.is_file())
        stale = [name for name in names if not _same(fresh / name, ROOT / name)]
    for name in stale:
        print(f"{name} is stale; run `make protos`", file=sys.stderr)
    return 1 if stale else 0


def _same(fresh: Path, committed: Path) -> bool:
    return committed.is_file() and filecmp.cmp(fresh, committed, shallow=False)


if __name__ == "__main__":
    raise SystemExit(main())
