"""Look for known vulnerabilities in what is pinned; exit code 1 if there are some, or if nobody can tell.

An index that has no advisories says so only between the lines, and pip-audit then counts nothing as found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
PIP_AUDIT: Final = (
    *("tool", "run", "pip-audit==2.10.1", "--requirement", "requirements/runtime.txt", "--require-hashes"),
    *("--disable-pip", "--progress-spinner", "off", "--format", "json"),
)
NPM_AUDIT: Final = ("scripts/npm.py", "--prefix", "web", "audit", "--audit-level=high", "--json")


def python_troubles() -> list[str]:
    """What is wrong with what requirements/runtime.txt pins."""
    report = _json(str(Path(sys.executable).parent / "uv"), *PIP_AUDIT)
    if "dependencies" not in report:
        return [f"Python's libraries were not audited: {report['said']}"]
    packages = report["dependencies"]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    troubles = [
        f"{package['name']} {package['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'none'}"
        for package in packages
        for found in package.get("vulns", ())
    ]
    if unknown:
        troubles.append(
            f"{len(unknown)} of {len(packages)} Python libraries were not audited: the index that pip uses here has no "
            "advisories"
        )
    return troubles


def dashboard_troubles() -> list[str]:
    """What is wrong with what web/package-lock.json pins."""
    report = _json(sys.executable, *NPM_AUDIT)
    if "vulnerabilities" not in report:
        return [f"the dashboard's libraries were not audited: {report.get('message') or report['said']}"]
    serious = [found for found in report["vulnerabilities"].values() if found["severity"] in ("high", "critical")]
    return [f"{found['name']} {found['range']}: {found['severity']}" for found in serious]


def _json(*command: str) -> dict[str, Any]:
    """What a program answers; if that is no JSON, what it ``said`` last."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines()
        return {"said": lines[-1] if lines else f"{command[0]} ended with {done.returncode}"}
    return answer


def main() -> int:
    troubles = python_troubles() + dashboard_troubles()
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    if not troubles:
        print("no known vulnerabilities")
    return 1 if troubles else 0


if __name__ == "__main__":
    raise SystemExit(main())
