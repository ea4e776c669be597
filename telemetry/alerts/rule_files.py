"""Reads rule files: Prometheus' format, every mistake with file, line and reason."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import promql_parser as promql
import yaml

from telemetry.alerts.alert import ALERT_NAME
from telemetry.alerts.expressions import Expression
from telemetry.alerts.promql import ExpressionError, compile_expression
from telemetry.alerts.rules import INTERVAL_US, Group, Rule, RuleError, RuleSet
from telemetry.alerts.templates import Template, TemplateError

FILE_BYTES_MAX: Final = 4 << 20
RULES_MAX: Final = 10_000
"""Most rules in force."""

INTERVAL_US_MIN: Final = 1_000_000
"""The shortest time between evaluations, in microseconds: GPUs say something once a second."""

_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_rules(paths: Iterable[Path]) -> RuleSet:
    """Read rule files. All rules are good, or none is taken.

    Raises:
        RuleError: naming file, line and reason.
    """
    return parse_rules(read_files(paths))


def parse_rules(files: Sequence[tuple[str, str]]) -> RuleSet:
    """Read rules from texts, each with the name of its file.

    Raises:
        RuleError: naming file, line and reason.
    """
    reader = _Reader()
    rules = RuleSet(tuple(group for file, text in files for group in reader.groups(file, text)))
    _check_names(rules)
    _check_cycles(rules)
    ranges_us = _ranges(rules)
    return RuleSet(
        tuple(
            replace(group, rules=tuple(replace(rule, range_us=ranges_us[rule.rule_id]) for rule in group.rules))
            for group in rules.groups
        )
    )


def read_files(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """The texts of rule files, each with the file's name.

    Raises:
        RuleError: if one cannot be read.
    """
    return [(str(path), _read(path)) for path in paths]


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise RuleError(str(path), 0, f"is larger than {FILE_BYTES_MAX >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RuleError(str(path), 0, error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise RuleError(str(path), 0, f"is not UTF-8 at byte {error.start}") from None


class _Reader:
    """Reads one file after the other."""

    def __init__(self) -> None:
        self._file = ""
        self._count = 0
        self._identities: Counter[str] = Counter()
        self._compiled: dict[str, Expression] = {}

    def groups(self, file: str, text: str) -> Iterator[Group]:
        """The groups of a file."""
        self._file = file
        try:
            root = yaml.compose(text, Loader=_LOADER)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise RuleError(file, mark.line + 1 if mark else 0, f"not YAML: {error.problem or error.context}") from None
        except yaml.YAMLError as error:
            raise RuleError(file, 0, f"not YAML: {' '.join(str(error).split())}") from None
        except RecursionError:
            raise RuleError(file, 0, "not a rule file: it is nested too deep") from None
        if root is None:
            return
        fields = self._fields(root, "the file", {"groups"})
        names: dict[str, int] = {}
        for node in self._list(fields, "groups"):
            group = self._group(node)
            if group.name in names:
                raise RuleError(
                    file, group.line, f"the group {group.name!r} is there already, in line {names[group.name]}"
                )
            names[group.name] = group.line
            yield group

    def _group(self, node: yaml.Node) -> Group:
        known = {"name", "interval", "limit", "rules", "query_offset", "partial_response_strategy", "labels"}
        fields = self._fields(node, "a group", known)
        for field in ("query_offset", "partial_response_strategy", "labels"):
            if field in fields:
                raise self._error(fields[field], f"{field} of a group is not supported")
        name = self._text(self._required(fields, "name", node, "a group"), "name")
        if not name:
            raise self._error(node, "the group's name is empty")
        interval_us = self._duration(fields, "interval") or INTERVAL_US
        if interval_us < INTERVAL_US_MIN or interval_us % INTERVAL_US_MIN:
            raise self._error(fields["interval"], "interval has to be a whole number of seconds, at least 1")
        limit = self._text(fields["limit"], "limit") if "limit" in fields else "0"
        if not limit.isdecimal():
            raise self._error(fields["limit"], f"limit {limit!r} is not a whole number from 0 on")
        rules = tuple(self._rule(each, name) for each in self._list(fields, "rules"))
        return Group(name, self._file, _line(node), interval_us, int(limit), rules)

    def _rule(self, node: yaml.Node, group: str) -> Rule:
        known = {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
        fields = self._fields(node, "a rule", known)
        self._count += 1
        if self._count > RULES_MAX:
            raise self._error(node, f"there are more than {RULES_MAX} rules")
        if ("alert" in fields) is ("record" in fields):
            raise self._error(node, "a rule has to have either alert or record")
        kind = "alert" if "alert" in fields else "record"
        name = self._text(fields[kind], kind)
        if not name:
            raise self._error(fields[kind], f"{kind} is empty")
        if kind == "record":
            for field in ("for", "keep_firing_for", "annotations"):
                if field in fields:
                    raise self._error(fields[field], f"a recording rule has no {field}")
            if not _METRIC.fullmatch(name):
                raise self._error(fields[kind], f"{name!r} cannot be the name of a series")
        expression_node = self._required(fields, "expr", node, "a rule")
        expression = self._text(expression_node, "expr").strip()
        labels = self._texts(fields, "labels", labels=True)
        annotations = self._texts(fields, "annotations", labels=False)
        label_nodes = self._pairs(fields.get("labels"), "labels")
        templates = {key: self._template(label_nodes[key], text) for key, text in labels.items()}
        compiled = self._expression(expression_node, expression)
        if kind == "record" and any(len(template.parts) > 1 for template in templates.values()):
            raise self._error(fields["labels"], "labels of a recording rule cannot have templates")
        return Rule(
            rule_id=self._identity(group, kind, name, labels),
            group=group,
            file=self._file,
            line=_line(node),
            alert=name if kind == "alert" else "",
            record=name if kind == "record" else "",
            expression=expression,
            for_us=self._duration(fields, "for"),
            keep_firing_for_us=self._duration(fields, "keep_firing_for"),
            labels=labels,
            annotations=annotations,
            range_us=compiled.range_us,
            compiled=compiled,
            label_templates=templates,
            annotation_templates=self._annotations(fields, annotations, {*labels, ALERT_NAME}),
        )

    def _annotations(
        self, fields: Mapping[str, yaml.Node], annotations: Mapping[str, str], given: set[str]
    ) -> Mapping[str, Template]:
        nodes = self._pairs(fields.get("annotations"), "annotations")
        templates = {}
        for name, text in annotations.items():
            templates[name] = self._template(nodes[name], text)
            for label in sorted(templates[name].labels & given):
                # In Prometheus, $labels are those of the expression's result only.
                raise self._error(
                    nodes[name], f"annotation {name}: $labels.{label} is given by the rule itself; write it out instead"
                )
        return templates

    def _identity(self, group: str, kind: str, name: str, labels: Mapping[str, str]) -> str:
        content = "\xff".join([group, kind, name, *(f"{key}\xfe{labels[key]}" for key in sorted(labels))])
        self._identities[content] += 1
        content += f"\xff{self._identities[content]}"
        return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    def _expression(self, node: yaml.Node, text: str) -> Expression:
        compiled = self._compiled.get(text)
        if compiled is None:
            try:
                compiled = self._compiled[text] = compile_expression(text)
            except ExpressionError as error:
                raise self._error(node, str(error)) from None
        return compiled

    def _template(self, node: yaml.Node, text: str) -> Template:
        try:
            return Template.parse(text)
        except TemplateError as error:
            raise self._error(node, str(error)) from None

    def _duration(self, fields: Mapping[str, yaml.Node], name: str) -> int:
        if name not in fields:
            return 0
        text = self._text(fields[name], name)
        if text in ("", "0"):
            return 0
        try:
            length = promql.parse_duration(text)
        except ValueError:
            raise self._error(fields[name], f"{name} {text!r} is not a duration such as 30s or 5m") from None
        return round(length.total_seconds() * 1e6)

    def _texts(self, fields: Mapping[str, yaml.Node], name: str, labels: bool) -> dict[str, str]:
        texts = {}
        for key, node in self._pairs(fields.get(name), name).items():
            if not _LABEL.fullmatch(key) or (labels and key in ("__name__", ALERT_NAME)):
                raise self._error(node, f"{key!r} cannot be used in {name}")
            texts[key] = self._text(node, key)
        return texts

    def _fields(self, node: yaml.Node, what: str, known: set[str]) -> dict[str, yaml.Node]:
        fields = self._pairs(node, what)
        for name, value in fields.items():
            if name not in known:
                raise self._error(value, f"{what} has no field {name!r}; it may have {', '.join(sorted(known))}")
        return fields

    def _pairs(self, node: yaml.Node | None, what: str) -> dict[str, yaml.Node]:
        if node is None or _is_null(node):
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{what} has to be a mapping")
        pairs: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self._text(key, f"a key of {what}")
            if name in pairs:
                raise self._error(key, f"{name!r} is there twice")
            pairs[name] = value
        return pairs

    def _list(self, fields: Mapping[str, yaml.Node], name: str) -> list[yaml.Node]:
        node = fields.get(name)
        if node is None or _is_null(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise self._error(node, f"{name} has to be a list")
        return list(node.value)

    def _required(self, fields: Mapping[str, yaml.Node], name: str, node: yaml.Node, what: str) -> yaml.Node:
        if name not in fields:
            raise self._error(node, f"{what} has to have {name}")
        return fields[name]

    def _text(self, node: yaml.Node, name: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, f"{name} has to be a text")
        return "" if _is_null(node) else str(node.value)

    def _error(self, node: yaml.Node, reason: str) -> RuleError:
        return RuleError(self._file, _line(node), reason)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _check_names(rules: RuleSet) -> None:
    """Alerts or series of two rules of a group that could not be told apart."""
    for group in rules.groups:
        seen: dict[tuple[str, str, tuple[tuple[str, str], ...]], Rule] = {}
        for rule in group.rules:
            key = (rule.alert, rule.record, tuple(sorted(rule.labels.items())))
            if key in seen:
                raise RuleError(
                    rule.file,
                    rule.line,
                    f"{rule.name} is there already with the same labels, in line {seen[key].line}",
                )
            seen[key] = rule


def _check_cycles(rules: RuleSet) -> None:
    """Series that are recorded from themselves."""
    recorded: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.record:
            recorded.setdefault(rule.record, []).append(rule)
    sources = {
        name: {selector.name for rule in mine for selector in rule.compiled.selectors} & recorded.keys()
        for name, mine in recorded.items()
    }
    done: set[str] = set()
    for name in recorded:
        path: list[str] = []
        pending = [(name, False)]
        while pending:
            at, leaving = pending.pop()
            if leaving:
                path.pop()
                done.add(at)
            elif at in path:
                rule = recorded[at][0]
                cycle = " from ".join([*path[path.index(at) :], at])
                raise RuleError(rule.file, rule.line, f"series are recorded in a cycle: {cycle}")
            elif at not in done:
                path.append(at)
                pending.append((at, True))
                pending.extend((source, False) for source in sorted(sources[at]))


def _ranges(rules: RuleSet) -> dict[str, int]:
    """By rule, how far back it looks, through what others record too; in microseconds."""
    by_record: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.record:
            by_record.setdefault(rule.record, []).append(rule)
    ranges: dict[str, int] = {}

    def reach(rule: Rule) -> int:
        if rule.rule_id not in ranges:
            names = {selector.name for selector in rule.compiled.selectors}
            sources = [source for name in names for source in by_record.get(name, ())]
            ranges[rule.rule_id] = rule.range_us + max(map(reach, sources), default=0)
        return ranges[rule.rule_id]

    for rule in rules:
        reach(rule)
    return ranges
