"""Label sets as columns: many series at a time are matched, grouped and paired without a loop over them.

A :class:`LabelSets` never changes, so what was once worked out about it is kept with it, and goes when it goes. Most
last for many evaluations; what two of them have to do with each other is kept only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from telemetry.alerts.expressions import Matcher, Matching
from telemetry.alerts.matching import compiled, expanded, full_match

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Texts = NDArray[np.object_]
Hashes = NDArray[np.uint64]

REMEMBERED_MAX: Final = 512
"""Most things remembered about one :class:`LabelSets`; beyond, all is worked out anew."""

_BITS: Final = (1 << 64) - 1
_T = TypeVar("_T")


class LabelSets:
    """Sets of labels, one a row. A label that a row lacks is empty, as Prometheus has it.

    Attributes:
        size: how many rows.
        columns: by label, one text a row.
        distinct: whether no two rows are alike.
        lasting: whether other evaluations will meet it again.
    """

    __slots__ = ("_hashes", "_remembered", "columns", "distinct", "lasting", "size")

    def __init__(
        self, size: int, columns: Mapping[str, Texts], hashes: Mapping[str, Hashes], *, distinct: bool, lasting: bool
    ) -> None:
        """Take columns as they are; :meth:`of` makes them."""
        self.size = size
        self.columns = columns
        self.distinct = distinct
        self.lasting = lasting
        self._hashes = hashes
        self._remembered: dict[object, Any] = {}

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]]) -> LabelSets:
        """Lay out rows, no two of them alike."""
        names = sorted({name for row in rows for name in row})
        columns = {name: _texts([row.get(name, "") for row in rows]) for name in names}
        hashes = {name: _hash(name, column) for name, column in columns.items()}
        return cls(len(rows), columns, hashes, distinct=True, lasting=False)

    def row(self, number: int) -> dict[str, str]:
        """The labels of a row."""
        return {name: text for name, column in self.columns.items() if (text := column[number])}

    def rows(self, numbers: Iterable[int]) -> Iterator[dict[str, str]]:
        """The labels of some rows."""
        return (self.row(number) for number in numbers)

    def take(self, rows: Rows, *, distinct: bool = False) -> LabelSets:
        """These rows, in this order; of which the caller may know that no two are alike."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        hashes = {name: column[rows] for name, column in self._hashes.items()}
        return LabelSets(len(rows), columns, hashes, distinct=distinct or self.distinct, lasting=False)

    def kept(self, *, distinct: bool) -> LabelSets:
        """The same rows, to last."""
        return LabelSets(self.size, self.columns, self._hashes, distinct=distinct, lasting=True)

    def followed_by(self, other: LabelSets) -> LabelSets:
        """All rows of this, then all of the other; some may be alike."""
        columns, hashes = {}, {}
        for name in sorted(self.columns.keys() | other.columns.keys()):
            columns[name] = np.concatenate([part.column(name) for part in (self, other)])
            hashes[name] = np.concatenate([part.hashes(name) for part in (self, other)])
        lasting = self.lasting and other.lasting
        return LabelSets(self.size + other.size, columns, hashes, distinct=False, lasting=lasting)

    def column(self, name: str) -> Texts:
        """The values of a label."""
        found = self.columns.get(name)
        return _texts([""] * self.size) if found is None else found

    def replaced(self, name: str, values: Texts) -> LabelSets:
        """The same rows with other values of one label; if they had any before, rows may become alike."""
        columns, hashes = {**self.columns, name: values}, {**self._hashes, name: _hash(name, values)}
        distinct = self.distinct and name not in self.columns
        return LabelSets(self.size, columns, hashes, distinct=distinct, lasting=self.lasting)

    def remember(self, key: object, make: Callable[[], _T]) -> _T:
        """What ``make`` gave when it was first asked for under this key."""
        try:
            return self._remembered[key]  # type: ignore[no-any-return]
        except KeyError:
            pass
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        made = self._remembered[key] = make()
        return made

    def remember_with(self, other: LabelSets, key: object, make: Callable[[], _T]) -> _T:
        """What ``make`` gave when it was first asked for with this other, if both last."""
        return self.remember((key, _Same(other)), make) if self.lasting and other.lasting else make()

    def matching(self, matchers: tuple[Matcher, ...]) -> Mask | None:
        """Which rows all matchers match; ``None`` for all of them."""
        return self.remember(("matching", matchers), lambda: self._match(matchers)) if matchers else None

    def signatures(self, matching: Matching) -> Hashes:
        """A number a row; the same for rows that are alike in the labels that count, and 64 bits long, so that others
        differ."""
        return self.remember(("signatures", matching), lambda: self._sign(matching))

    def groups(self, matching: Matching) -> Groups:
        """Rows that are alike in the labels that count, together."""
        return self.remember(("groups", matching), lambda: Groups(self, matching))

    def pairs(self, other: LabelSets, matching: Matching) -> tuple[Rows, Rows, int]:
        """Numbers for the rows of both, the same where the labels that count are, and how many numbers there are."""
        return self.remember_with(other, ("pairs", matching), lambda: self._pair(other, matching))

    def hashes(self, name: str) -> Hashes:
        """A number a row for the values of a label; 0 where there is none."""
        found = self._hashes.get(name)
        return np.zeros(self.size, np.uint64) if found is None else found

    def _match(self, matchers: tuple[Matcher, ...]) -> Mask:
        mask = np.ones(self.size, np.bool_)
        for matcher in matchers:
            column = self.column(matcher.label)
            if matcher.comparison in ("=", "!="):
                mine = np.asarray(column == matcher.value, np.bool_)
            else:
                verdicts = {text: full_match(matcher.value, text) for text in set(column)}
                mine = np.fromiter((verdicts[text] for text in column), np.bool_, self.size)
            mask &= ~mine if matcher.comparison.startswith("!") else mine
        return mask

    def _sign(self, matching: Matching) -> Hashes:
        total = np.zeros(self.size, np.uint64)
        for name, hashes in self._hashes.items():
            if (name in matching.labels) is matching.on:
                total += hashes
        return total

    def _pair(self, other: LabelSets, matching: Matching) -> tuple[Rows, Rows, int]:
        if other is self and self.distinct and not matching.on and not matching.labels:
            numbers = np.arange(self.size)
            return numbers, numbers, self.size
        both = np.concatenate([self.signatures(matching), other.signatures(matching)])
        distinct, numbers = np.unique(both, return_inverse=True)
        return numbers[: self.size], numbers[self.size :], len(distinct)


class Groups:
    """Rows of label sets in groups.

    Attributes:
        sets: the labels of each group.
        of_row: the group of each row.
        order: rows, those of a group together.
        starts: where in ``order`` each group begins.
    """

    __slots__ = ("of_row", "order", "sets", "starts")

    def __init__(self, rows: LabelSets, matching: Matching) -> None:
        signatures = rows.signatures(matching)
        _, first, of_row = np.unique(signatures, return_index=True, return_inverse=True)
        self.of_row: Rows = of_row
        self.order: Rows = np.argsort(of_row, kind="stable")
        self.starts: Rows = np.searchsorted(of_row[self.order], np.arange(len(first)))
        kept = [name for name in rows.columns if (name in matching.labels) is matching.on]
        if len(first) == rows.size and rows.distinct and len(kept) == len(rows.columns):
            # Every row is its own group: the rows themselves, so that they are known to be the same.
            self.sets = rows
            self.of_row = self.order = self.starts = np.arange(rows.size)
            return
        columns = {name: rows.columns[name][first] for name in kept}
        hashes = {name: rows.hashes(name)[first] for name in kept}
        self.sets = LabelSets(len(first), columns, hashes, distinct=True, lasting=rows.lasting)


class _Same:
    """Equal only to the same object."""

    __slots__ = ("_it",)

    def __init__(self, it: object) -> None:
        self._it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._it is self._it

    def __hash__(self) -> int:
        return id(self._it)


EVERYTHING: Final = Matching(on=False, labels=())
"""All labels count."""

NO_LABELS: Final = LabelSets(1, {}, {}, distinct=True, lasting=True)
"""One row without labels."""


def replace_label(sets: LabelSets, target: str, replacement: str, source: str, pattern: str) -> LabelSets:
    """``label_replace``: where the whole value of ``source`` matches, ``target`` becomes ``replacement``."""

    def make() -> LabelSets:
        texts = sets.column(source)
        found = {text: compiled(pattern).fullmatch(text) for text in set(texts)}
        replaced = {text: expanded(match, replacement) for text, match in found.items() if match is not None}
        values = [replaced.get(text, before) for text, before in zip(texts, sets.column(target), strict=True)]
        return sets.replaced(target, _texts(values))

    return sets.remember(("replace", target, replacement, source, pattern), make)


def join_labels(sets: LabelSets, target: str, separator: str, sources: tuple[str, ...]) -> LabelSets:
    """``label_join``: ``target`` becomes the values of the others, joined."""

    def make() -> LabelSets:
        columns = [sets.column(name) for name in sources]
        joined = _texts(
            [separator.join(values) for values in zip(*columns, strict=True)] if columns else [""] * sets.size
        )
        return sets.replaced(target, joined)

    return sets.remember(("join", target, separator, sources), make)


def _texts(values: list[str]) -> Texts:
    column = np.empty(len(values), np.object_)
    column[:] = values
    return column


def _hash(name: str, values: Texts) -> Hashes:
    return np.fromiter((hash((name, text)) & _BITS if text else 0 for text in values), np.uint64, len(values))
