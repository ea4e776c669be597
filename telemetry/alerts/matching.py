"""Choosing alerts by their labels, as Alertmanager's matchers do."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import re2

REMEMBERED: Final = 100_000
"""Outcomes of regular expressions that are remembered."""
COMPILED_MAX: Final = 128
"""Regular expressions that are kept compiled."""

_OPTIONS: Final = re2.Options()
_OPTIONS.dot_nl = True
_OPTIONS.log_errors = False
_REFERENCE: Final = re.compile(r"\$\$|\$(\w+)|\$\{(\w+)\}")


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
    """Whether a regular expression, one that :func:`check_pattern` passes, matches a whole value."""
    return compiled(pattern).fullmatch(value) is not None


@lru_cache(COMPILED_MAX)
def compiled(pattern: str) -> Any:
    """A regular expression, ready to match.

    The expressions come from whoever may make a silence. So it is RE2 that matches, the dialect of Prometheus, which
    takes time in proportion to the value whatever the expression; Python's own may take for ever.
    """
    return re2.compile(pattern, _OPTIONS)


def expanded(match: Any, template: str) -> str:
    """A text in which ``$1``, ``${1}`` and ``$name`` stand for the groups of a match, and ``$$`` for ``$``.

    A group that there is not, or that took no part, is empty.
    """
    groups = {str(number): text for number, text in enumerate((match.group(), *match.groups()))}
    groups |= {name: match.group(name) for name in match.re.groupindex}
    return _REFERENCE.sub(lambda found: "$" if found[0] == "$$" else groups.get(found[1] or found[2]) or "", template)


def check_pattern(pattern: str) -> None:
    """See that a regular expression can be used.

    Raises:
        ValueError: it is none, looks around or back, or is too large.
    """
    try:
        compiled(pattern)
    except re2.error as error:
        raise ValueError(error.args[0].decode(errors="replace")) from None
