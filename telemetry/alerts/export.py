"""Rules as other programs want them: a PrometheusRule for the Prometheus operator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import yaml

from telemetry.alerts.rule_files import parse_rules
from telemetry.alerts.rules import RuleError

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def prometheus_rule(files: Sequence[tuple[str, str]], name: str) -> str:
    """The groups of rule files, each a name and a text, as one PrometheusRule in YAML.

    Raises:
        RuleError: if a file is refused, or two have groups of one name, which cannot be in one PrometheusRule.
        ValueError: if Kubernetes has no such names.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name for Kubernetes: small letters, digits, - and ., at most 253")
    rules = parse_rules(files)
    seen: dict[str, str] = {}
    for group in rules.groups:
        if group.name in seen:
            raise RuleError(group.file, group.line, f"the group {group.name!r} is in {seen[group.name]} too")
        seen[group.name] = group.file
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "gpu-telemetry-pipeline"}},
        "spec": {"groups": [group for _, text in files for group in _groups(text)]},
    }
    return yaml.safe_dump(resource, sort_keys=False, allow_unicode=True, width=110)


def _groups(text: str) -> Iterator[Any]:
    content = yaml.safe_load(text) or {}
    yield from content.get("groups") or ()
