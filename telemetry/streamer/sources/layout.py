"""What a source's layout has to do: read a table of text into rows, and merge rows into records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Final, Protocol

import polars as pl

from telemetry.codec import TIME_TYPE
from telemetry.model import GPU, TIMESTAMP
from telemetry.streamer.sources import cells
from telemetry.streamer.sources.lines import BadRow, bad_row
from telemetry.streamer.sources.table import LINE
from telemetry.tabular import NAMES, Column, Role, column_of

FIRST_LINE: Final = "$first_line"
LAST_LINE: Final = "$last_line"
"""Columns of records beside a frame's own: which lines they were made of."""


class SourceError(ValueError):
    """A file that cannot be streamed; the text says why."""


class Layout(Protocol):
    """How a file arranges its samples."""

    keys: Sequence[str]
    """The columns that, with the time, identify a row; none where rows that repeat are parts of one record."""

    has_time: bool
    """Whether the file says when."""

    def rows(self, table: pl.DataFrame, wrong: WrongCells) -> pl.DataFrame:
        """Read a table of text. Rows have ``LINE``, the time (null when missing), the GPU, values and labels."""

    def records(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Merge consecutive rows into records: a frame, and ``FIRST_LINE`` and ``LAST_LINE``."""


class WrongCells:
    """Collects the cells of one block that cannot be read, and what their rows lose."""

    def __init__(self) -> None:
        self._cells: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
        self._lost: set[int] = set()

    def add(self, lines: Iterable[int], field: str, reason: str, *, row_lost: bool = False) -> None:
        """Say what is wrong with a column in these lines, and whether their rows are lost with it."""
        for line in lines:
            self._cells[line].append((field, reason))
            if row_lost:
                self._lost.add(line)

    def add_texts(
        self, table: pl.DataFrame, position: str, field: str, unreadable: cells.Unreadable, *, row_lost: bool = False
    ) -> None:
        """The same for all cells of a column that hold one of these texts."""
        if unreadable:
            found = table.select(LINE, position).filter(pl.col(position).is_in(list(unreadable)))
            for line, text in found.iter_rows():
                self.add((line,), field, unreadable[text], row_lost=row_lost)

    def kept(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows that are not lost."""
        return rows.filter(~pl.col(LINE).is_in(sorted(self._lost))) if self._lost else rows

    def __bool__(self) -> bool:
        return bool(self._cells)

    def bad_rows(self, raw: Callable[[int], bytes]) -> list[BadRow]:
        """One for each row concerned; ``raw`` gives a line's text."""
        return [
            bad_row(
                line,
                "; ".join(reason for _, reason in wrong),
                raw(line),
                ", ".join(dict.fromkeys(field for field, _ in wrong)),
            )
            for line, wrong in sorted(self._cells.items())
        ]


@dataclass(frozen=True, slots=True)
class Placed:
    """A column and where it stands.

    Attributes:
        position: its name in tables of text.
        column: what it is.
    """

    position: str
    column: Column


def place(headers: Sequence[str]) -> tuple[list[str], list[Placed]]:
    """Name the columns of a table by position, since headers may repeat, and say what each is.

    Of several columns that would have one name in a record, the first has it; others keep the source's, numbered if
    need be.
    """
    positions = [f"${number}" for number in range(len(headers))]
    taken: set[str] = {TIMESTAMP, GPU}
    roles: set[Role] = set()
    placed = []
    for position, header in zip(positions, headers, strict=True):
        column = column_of(header)
        role, name = column.role, column.name
        if role in NAMES:
            if role in roles:
                role, name = Role.LABEL, column.source
            roles.add(role)
        if role is not Role.TIME:
            name = _free_name(name, column.source or position, taken)
            taken.add(name)
        placed.append(Placed(position, Column(column.source, column.unit, role, name, column.scale)))
    return positions, placed


def _free_name(name: str, source: str, taken: set[str]) -> str:
    number = 1
    candidate = name if name not in taken else source
    while candidate in taken or candidate.startswith("$"):
        number += 1
        candidate = f"{source.lstrip('$') or 'column'}_{number}"
    return candidate


class Identity:
    """The columns of a file that say which GPU and when, and how rows get both from them."""

    def __init__(self, columns: Sequence[Placed], headers: Sequence[str], zone: tzinfo) -> None:
        """Find them.

        Raises:
            SourceError: if there is no column that says which GPU.
        """
        self._zone = zone
        self._by_role = {placed.column.role: placed for placed in columns if placed.column.role in NAMES}
        if not self._by_role.keys() & {Role.UUID, Role.INDEX, Role.BARE}:
            accepted = ", ".join((*NAMES[Role.UUID], *NAMES[Role.INDEX], *NAMES[Role.BARE]))
            found = ", ".join(headers)[:500]
            raise SourceError(f"no column says which GPU a row is about; found are: {found}; accepted are: {accepted}")
        if Role.INDEX not in self._by_role and self._by_role.keys() & {Role.UUID, Role.HOST}:
            # Beside a host or a UUID a bare id is the number within the host.
            self._rename(Role.BARE, Role.INDEX)
        self._checked = False

    @property
    def has_time(self) -> bool:
        """Whether the file says when."""
        return Role.TIME in self._by_role

    @property
    def names(self) -> list[str]:
        """The columns of :meth:`read` besides time and GPU."""
        roles = {Role.UUID: "uuid", Role.HOST: "host", Role.INDEX: "index"}
        return [name for role, name in roles.items() if role in self._by_role]

    def read(self, table: pl.DataFrame, wrong: WrongCells) -> pl.DataFrame:
        """Time, GPU, and those of ``uuid``, ``host`` and ``index`` that the file has."""
        if not self._checked:
            self._recognise_uuids(table)
        columns = [
            cells.labels(table[placed.position]).alias(role.name.lower())
            for role, placed in self._by_role.items()
            if role is not Role.TIME
        ]
        frame = pl.DataFrame([table[LINE], *columns, self._times(table, wrong)]).with_columns(self._gpu().alias(GPU))
        without = frame.filter(pl.col(GPU).is_null())[LINE]
        if without.len():
            headers = [placed.column.source for role, placed in self._by_role.items() if role is not Role.TIME]
            wrong.add(without, ", ".join(headers), "the row does not say which GPU it is about", row_lost=True)
        return frame.select(TIMESTAMP, GPU, *self.names)

    def _times(self, table: pl.DataFrame, wrong: WrongCells) -> pl.Series:
        placed = self._by_role.get(Role.TIME)
        if placed is None:
            return pl.Series(TIMESTAMP, [None], TIME_TYPE).new_from_index(0, table.height)
        values, unreadable = cells.times(table[placed.position], self._zone)
        wrong.add_texts(table, placed.position, placed.column.source, unreadable, row_lost=True)
        return values.alias(TIMESTAMP)

    def _gpu(self) -> pl.Expr:
        """``model.gpu_identity`` over columns."""
        ways = []
        if Role.UUID in self._by_role:
            ways.append(pl.col("uuid"))
        if Role.HOST in self._by_role and Role.INDEX in self._by_role:
            ways.append(pl.concat_str("host", pl.lit("/"), "index"))
        if Role.BARE in self._by_role:
            ways.append(pl.col("bare"))
        if Role.INDEX in self._by_role:
            ways.append(pl.col("index"))
        return pl.coalesce(ways)

    def _recognise_uuids(self, table: pl.DataFrame) -> None:
        """Columns called ``gpu`` or ``gpu_id`` hold UUIDs in some sources."""
        for role in (Role.INDEX, Role.BARE):
            if role in self._by_role and Role.UUID not in self._by_role:
                texts = cells.labels(table[self._by_role[role].position]).drop_nulls()
                if texts.len() and texts.str.contains(r"^(?:GPU|MIG)-[0-9a-fA-F]{8}").all():
                    self._rename(role, Role.UUID)
        self._checked = table.height > 0

    def _rename(self, old: Role, new: Role) -> None:
        if old in self._by_role:
            self._by_role[new] = self._by_role.pop(old)


def without_time(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Give rows that have no time the time at which they were read."""
    if not rows[TIMESTAMP].null_count():
        return rows
    return rows.with_columns(pl.col(TIMESTAMP).fill_null(pl.lit(now, TIME_TYPE)))


def each_row_a_record(rows: pl.DataFrame) -> pl.DataFrame:
    """Records of rows of which each is one already."""
    return rows.with_columns(pl.col(LINE).alias(LAST_LINE)).rename({LINE: FIRST_LINE})
