"""docs/deployment.md: its table is what values.yaml says, and its commands name things that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

import pytest
import yaml

from scripts.document_values import PAGE, ROOT, VALUES, parts, table
from scripts.parts import renewed
from tests.unit.deploy.charts import Release

COMMANDS: Final = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)).replace("\\\n", " ")


def test_the_table_of_values_is_that_of_the_chart() -> None:
    assert renewed(PAGE.read_text(), parts()) == PAGE.read_text(), "run `make docs`"


def test_a_value_without_a_comment_is_not_let_through() -> None:
    text = VALUES.read_text()
    with pytest.raises(ValueError, match=r"queue\.fsync in values\.yaml has no comment"):
        list(table(re.sub(r"  # When what is published.*\n", "", text)))


def test_the_commands_name_files_and_targets_that_exist() -> None:
    named = re.findall(r"(?:^|\s)((?:deploy|helm)/\S+)", COMMANDS)
    assert {"deploy/docker/setup.sh", "deploy/docker/compose.yaml", "helm/telemetry-pipeline/quickstart.sh"} <= set(
        named
    )
    for path in named:
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", COMMANDS, re.MULTILINE)) <= targets


def test_the_values_in_commands_are_ones_that_the_chart_takes() -> None:
    commands = [line for line in COMMANDS.splitlines() if line.startswith("helm upgrade")]
    assert len(commands) >= 4
    for command in commands:
        words = shlex.split(command)
        values: dict[str, Any] = {}
        for flag, assignment in pairwise(words):
            if flag == "--set":
                path, _, text = assignment.partition("=")
                *parents, leaf = path.split(".")
                place = values
                for parent in parents:
                    place = place.setdefault(parent, {})
                place[leaf] = yaml.safe_load(text)
        assert Release(values).workloads()


def test_the_variables_of_compose_are_all_told() -> None:
    compose = (ROOT / "deploy" / "docker" / "compose.yaml").read_text()
    page = PAGE.read_text()
    for variable in set(re.findall(r"\$\{(\w+):-", compose)):
        assert f"`{variable}`" in page, variable


def test_the_options_of_setup_are_all_told() -> None:
    script = (ROOT / "deploy" / "docker" / "setup.sh").read_text()
    for option in set(re.findall(r"^ *(--[a-z-]+)\) ", script, re.MULTILINE)):
        assert f"| `{option}` |" in PAGE.read_text(), option


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
