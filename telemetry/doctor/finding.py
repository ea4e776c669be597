"""What a check has found."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Verdict(enum.StrEnum):
    """How it is."""

    OK = "ok"
    WARN = "warn"
    """It works, and will hurt some day."""
    FAIL = "fail"
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: what was looked at, such as ``disk``.
        verdict: how it is.
        detail: what was found.
        remedy: what to do about it; empty when there is nothing to do.
    """

    check: str
    verdict: Verdict
    detail: str
    remedy: str = ""

    def to_json(self) -> Mapping[str, Any]:
        """For scripts."""
        return {"check": self.check, "verdict": str(self.verdict), "detail": self.detail, "remedy": self.remedy}


def ok(check: str, detail: str) -> Finding:
    """It is well."""
    return Finding(check, Verdict.OK, detail)


def warn(check: str, detail: str, remedy: str) -> Finding:
    """It works, and will hurt some day."""
    return Finding(check, Verdict.WARN, detail, remedy)


def fail(check: str, detail: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(check, Verdict.FAIL, detail, remedy)
