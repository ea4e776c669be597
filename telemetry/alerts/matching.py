"""Choosing alerts by their labels, as Alertmanager's matchers do."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import polars as pl

REMEMBERED: Final = 100_000
"""Outcomes of regular expressions that are remembered."""


class Comparison(enum.Enum):
    """How a matcher compares a label's value."""

    EQUAL = "="
    NOT_EQUAL = "!="
    REGEX = "=~"
    NOT_REGEX = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """Matches alerts by one label; a label that an alert lacks has the empty value."""

    name: str
    comparison: Comparison
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an alert with these labels is meant."""
        value = labels.get(self.name, "")
        match self.comparison:
            case Comparison.EQUAL:
                return value == self.value
            case Comparison.NOT_EQUAL:
                return value != self.value
            case Comparison.REGEX:
                return full_match(self.value, value)
            case Comparison.NOT_REGEX:
                return not full_match(self.value, value)

    def __str__(self) -> str:
        return f'{self.name}{self.comparison.value}"{self.value}"'


def match_all(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether all of them match."""
    return all(matcher.matches(labels) for matcher in matchers)


@lru_cache(REMEMBERED)
def full_match(pattern: str, value: str) -> bool:
    """Whether a regular expression, one that :func:`check_pattern` passes, matches a whole value.

    The expressions come from whoever may make a silence. So it is polars' engine that matches, which takes time in
    proportion to the value whatever the expression; that of Python may take for ever.
    """
    return bool(pl.Series([value]).str.contains(f"^(?s:{pattern})$")[0])


def check_pattern(pattern: str) -> None:
    """See that a regular expression can be used.

    Raises:
        ValueError: it is none, looks around or back, or is too large.
    """
    try:
        # By itself first: in parentheses, one that closes more than it opens would pass.
        for text in (pattern, f"^(?s:{pattern})$"):
            pl.Series([""]).str.contains(text)
    except pl.exceptions.ComputeError as error:
        reason = " ".join(str(error).split()).split(" This error occurred")[0]
        raise ValueError(reason.rsplit("error: ", 1)[-1]) from None
