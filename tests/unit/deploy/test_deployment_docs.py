"""docs/deployment.md: its table is what values.yaml says, and its commands name things that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[3]
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


def expected_table() -> list[str]:
    documented = comments(VALUES.read_text())
    rows = ["| value | default | meaning |", "| --- | --- | --- |"]
    for path, default in leaves(yaml.safe_load(VALUES.read_text()), documented).items():
        rows.append(f"| `{path}` | `{json.dumps(default)}` | {documented[path]} |")
    return rows


def test_every_value_has_a_comment() -> None:
    documented = comments(VALUES.read_text())
    assert [path for path in leaves(yaml.safe_load(VALUES.read_text()), documented) if not documented[path]] == []


def test_the_table_of_values_is_that_of_the_chart() -> None:
    table = [line for line in PAGE.read_text().splitlines() if line.startswith(("| `", "| value"))]
    expected = [row for row in expected_table() if "---" not in row]
    assert table == expected, "the table should be:\n" + "\n".join(expected_table())


def test_the_commands_name_files_and_targets_that_exist() -> None:
    commands = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL))
    for path in re.findall(r"(?:--file|helm upgrade --install \S+) ((?:deploy|helm)/\S+)", commands):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", commands, re.MULTILINE)) <= targets


def test_the_example_of_a_compose_file_is_one_that_the_streamer_accepts(
    parse: Callable[[str, Sequence[str]], dict[str, Any]],
) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    ((process, service),) = yaml.safe_load(example)["services"].items()
    settings = parse(process, service["command"])
    (mount,) = service["volumes"]
    assert [str(path) for path in settings["more_files"]] == [mount.split(":")[1]]
    assert settings["loop"] is False
    assert settings["stay"] is True
