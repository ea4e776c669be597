"""The workflows and git hooks: valid, and naming only things that exist."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[3]
WORKFLOWS: Final = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
HOOKS: Final = ROOT / ".pre-commit-config.yaml"


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load(workflow.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_follows_the_schema_and_bounds_its_time(workflow: Path) -> None:
    if find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed: the workflows are not held against their schema")
    for schema in ("vendor.github-workflows", "custom.github-workflows-require-timeout"):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(workflow)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_and_runs_only_targets_that_make_has(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    runs = "\n".join(step["run"] for step in steps(workflow) if "run" in step)
    assert set(re.findall(r"^make ([a-z-]+)", runs, re.MULTILINE)) <= targets
    for path in re.findall(r"--file (\S+)", runs):
        assert (ROOT / path).is_file()


def test_the_oldest_python_that_we_promise_is_tested() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yaml").read_text())["jobs"]
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert promised == f">={jobs['test']['strategy']['matrix']['python'][0]}"


def test_the_git_hooks_are_valid_and_name_files_that_exist() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config", str(HOOKS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for hook in yaml.safe_load(HOOKS.read_text())["repos"][0]["hooks"]:
        for word in hook["entry"].split()[1:]:
            assert "/" not in word or (ROOT / word).exists(), word
