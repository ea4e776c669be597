"""Write the table of the chart's values in docs/deployment.md from values.yaml, or with --check say that it is stale.

What a value means is the comment above it. A value with a comment is a row of its own, whatever is in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.parts import Parts, main

ROOT: Final = Path(__file__).resolve().parent.parent
VALUES: Final = ROOT / "helm" / "telemetry-pipeline" / "values.yaml"
PAGE: Final = ROOT / "docs" / "deployment.md"


def comments(text: str) -> dict[str, str]:
    """The comment above each key, under the key's path such as ``queue.persistence.size``."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        words = line.strip()
        if words.startswith("#"):
            comment.append(words.removeprefix("#").strip())
        elif key := re.match(r"( *)(\w+):", line):
            indent = len(key[1])
            path = [parent for parent in path if parent[0] < indent] + [(indent, key[2])]
            found[".".join(name for _, name in path)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


def leaves(values: dict[str, Any], documented: dict[str, str], prefix: str = "") -> dict[str, Any]:
    """The values that are set as one: those with a comment, which ``resources`` has as a whole."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and not documented.get(path):
            found |= leaves(value, documented, f"{path}.")
        else:
            found[path] = value
    return found


def table(text: str) -> Iterator[str]:
    """The rows of the table for a values.yaml.

    Raises:
        ValueError: if a value has no comment.
    """
    documented = comments(text)
    yield "| value | default | meaning |"
    yield "| --- | --- | --- |"
    for path, default in leaves(yaml.safe_load(text), documented).items():
        if not documented[path]:
            raise ValueError(f"{path} in values.yaml has no comment that says what it means")
        yield f"| `{path}` | `{json.dumps(default)}` | {documented[path]} |"


def parts() -> Parts:
    """The page's only part."""
    return {"values": table(VALUES.read_text(encoding="utf-8"))}


if __name__ == "__main__":
    raise SystemExit(main(__doc__, PAGE, parts))
