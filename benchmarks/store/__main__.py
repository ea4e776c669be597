"""Measure the store and its peers and print tables.

    python -m benchmarks.store --quick --only disk

Every server is started here, on a free port, with its own files, one at a time; this process and all of them share two
cores. Prometheus and VictoriaMetrics are those that scripts/servers.sh fetches; without them their lines say so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import orjson

from benchmarks.queue import machine
from benchmarks.store import report
from benchmarks.store.fleet import fleet
from benchmarks.store.freshness import freshness
from benchmarks.store.ingest import long, wide
from benchmarks.store.memory import memory
from benchmarks.store.month import month
from benchmarks.store.peers import all_metrics, ten_metrics
from benchmarks.store.report import Part
from benchmarks.store.size import Size

PARTS: Final[Mapping[str, Callable[[Size], Part]]] = {
    "ingest": wide,
    "long": long,
    "fresh": freshness,
    "fleet": fleet,
    "disk": ten_metrics,
    "disk-all": all_metrics,
    "month": month,
    "memory": memory,
}
NOT_QUICK: Final = ("disk-all",)
"""Parts that --quick leaves out unless they are named."""
FULL_MINUTES: Final = 60.0
QUICK_MINUTES: Final = 0.25


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(
        prog="make bench-store", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="PARTS", help=f"comma-separated: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="a first look in less than two minutes")
    parser.add_argument("--rounds", type=int, help="how often a CSV file is carried (3, quick 1); the median counts")
    parser.add_argument("--minutes", type=float, help="how long memory is watched (60, quick 0.25)")
    parser.add_argument("--folder", type=Path, help="where the stores keep their files for the time being")
    parser.add_argument("--markdown", action="store_true", help="print a section for docs/performance.md")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    usual = [name for name in PARTS if not (options.quick and name in NOT_QUICK)]
    only = options.only.split(",") if options.only else usual
    if unknown := [name for name in only if name not in PARTS]:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    minutes = options.minutes or (QUICK_MINUTES if options.quick else FULL_MINUTES)
    rounds = options.rounds or (1 if options.quick else 3)
    plainly = not (options.markdown or options.json)

    machine.keep_to_cores()
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-", dir=options.folder) as name:
        command = "make bench-store" + (f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else "")
        about = {**machine.describe(Path(name)), "command": command}
        if plainly:
            print("\n".join(f"{key:<10} {value}" for key, value in about.items()))
        parts: list[Part] = []
        for part in only:
            # Files of one part are not kept for the next.
            with tempfile.TemporaryDirectory(prefix=f"{part}-", dir=name) as folder:
                parts.append(PARTS[part](Size(options.quick, rounds, minutes, Path(folder))))
            if plainly:
                print(f"\n{report.text(parts[-1])}", flush=True)
    about["load after"] = f"{os.getloadavg()[0]:.1f}"
    if options.json:
        print(orjson.dumps({**about, "parts": [report.as_dict(part) for part in parts]}).decode())
    elif options.markdown:
        print(report.markdown(about, parts))
    else:
        print(f"\nload       {about['load after']} after")


if __name__ == "__main__":
    main()
