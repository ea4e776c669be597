"""Tables and numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RIGHT: Final = ">"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of aligned columns under a heading. A column whose name begins with ``>`` is aligned to the right."""
    names = [name.removeprefix(_RIGHT) for name in columns]
    widths = [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]
    for cells in (names, *rows):
        padded = (
            cell.rjust(width) if column.startswith(_RIGHT) else cell.ljust(width)
            for cell, width, column in zip(cells, widths, columns, strict=True)
        )
        yield "  ".join(padded).rstrip()


def properties(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Lines of names and values."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        yield f"{name.ljust(width)}  {value}"


def section(title: str, lines: Iterator[str]) -> Iterator[str]:
    """An empty line, a title, and lines."""
    yield ""
    yield title
    yield from lines


def number(value: int) -> str:
    """A count: ``1,234,567``."""
    return f"{value:,}"


def plural(value: int, noun: str) -> str:
    """``1 message``, ``1,234 messages``."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def rate(value: float) -> str:
    """Something a second: ``0``, ``0.4``, ``12.5``, ``4,321``."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def size(value: int) -> str:
    """Bytes: ``512 B``, ``1.2 MiB``."""
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{value} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"


def seconds(value: float | None) -> str:
    """A length of time: ``250 ms``, ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``; ``-`` for none."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f} ms" if value else "0 s"
    if value < 60:
        return f"{value:.1f}".removesuffix(".0") + " s"
    for larger, smaller, name, part in ((60, 1, "min", "s"), (3600, 60, "h", "min"), (86_400, 3600, "d", "h")):
        if value < larger * (60 if larger == 60 else 24) or larger == 86_400:
            whole, rest = divmod(int(value), larger)
            return f"{whole:,} {name} {rest // smaller} {part}" if rest // smaller else f"{whole:,} {name}"
    raise AssertionError("unreachable")


def instant(time: datetime | None) -> str:
    """RFC 3339 in UTC, to the millisecond; ``-`` for none."""
    return "-" if time is None else time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instant_of_us(time_us: int) -> datetime:
    """Microseconds since 1970 as UTC."""
    return _EPOCH + timedelta(microseconds=time_us)


def printable(text: str) -> str:
    """The text on one line: what would move the cursor or ring the bell is written as an escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
