"""What the commands on a data directory say: problems found, files copied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from telemetry.console.tables import plural, printable, size
from telemetry.storage.upkeep.backup import Copied
from telemetry.storage.upkeep.check import Problem, Report


def report_lines(report: Report) -> Iterator[str]:
    """An examination, for people."""
    for problem in report.problems:
        yield from _problem(problem, at_rest=report.at_rest)
    examined = f"{plural(report.hot_files, 'hot file')} and {plural(report.cold_files, 'cold file')}"
    state = "" if report.at_rest else ", while a collector is at work"
    yield f"examined {examined}, {size(report.examined_bytes)}{state}"
    damage = sum(problem.is_damage and not problem.repaired for problem in report.problems)
    yield "no damage" if not damage else f"damage in {plural(damage, 'place')}"


def copied_lines(copied: Copied, target: Path, verb: str) -> Iterator[str]:
    """A backup or what was restored, for people."""
    for path, reason in sorted(copied.damaged.items()):
        yield f"damaged: {printable(path)}: {reason}"
    yield f"{verb} {plural(len(copied.files), 'file')}, {size(copied.size)}, to {target}"


def _problem(problem: Problem, *, at_rest: bool) -> Iterator[str]:
    kind = "repaired" if problem.repaired else "damage" if problem.is_damage else "left over"
    yield f"{kind}: {printable(problem.path)}: {problem.what}"
    if not problem.repaired:
        stopped = "" if at_rest else " (once no collector runs)"
        yield f"  --repair would {problem.remedy}{stopped}" if problem.remedy else "  nothing can be done about it here"
