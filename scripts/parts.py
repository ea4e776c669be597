"""Parts of docs pages that come from the code, each between ``<!-- generated: NAME -->`` and ``<!-- end -->``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

Parts = Mapping[str, Iterable[str]]
"""The lines of each part, by its name."""


def renewed(page: str, parts: Parts) -> str:
    """The page with these parts made again."""
    for name, lines in parts.items():
        begin, end = f"<!-- generated: {name} -->\n", "<!-- end -->"
        before, rest = page.split(begin, 1)
        _, after = rest.split(end, 1)
        page = before + begin + "\n".join(lines) + "\n" + end + after
    return page


def main(description: str | None, path: Path, parts: Callable[[], Parts]) -> int:
    """A program that writes the parts of the page, or with --check says that they are stale."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with what is committed; write nothing")
    arguments = parser.parse_args()
    page = path.read_text(encoding="utf-8")
    fresh = renewed(page, parts())
    if not arguments.check:
        path.write_text(fresh, encoding="utf-8")
    elif fresh != page:
        print(f"docs/{path.name} is stale; run `make docs`", file=sys.stderr)
        return 1
    return 0
