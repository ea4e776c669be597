"""Measure the queue and its peers and print tables.

    python -m benchmarks.queue --only batches --rounds 3

Each peer is started here, on a free port, with its own files. All confirmations come after the disk has the data, as
far as the peer offers that; the notes under each table say so. Times go from the publisher's first row to the
consumer's last ack; latencies from when a row was due. Broker, publisher and consumer are three processes on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from benchmarks.queue import machine, peers
from benchmarks.queue.backlog import backlog
from benchmarks.queue.fanout import fanout
from benchmarks.queue.peers import Size
from benchmarks.queue.report import Figure

FULL_GB: Final = 10.0

FIGURES: Final[Mapping[str, Callable[[Size], Figure]]] = {
    "batches": peers.batches,
    "packed": peers.packed,
    "single": peers.single,
    "memory": peers.memory,
    "backlog": backlog,
    "fanout": fanout,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the figures asked for."""
    parser = argparse.ArgumentParser(
        prog="make bench-queue", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=FIGURES, metavar="NAME", help=", ".join(FIGURES))
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured; the median is compared")
    parser.add_argument("--factor", type=float, default=1.0, help="how much is sent, as a factor")
    parser.add_argument("--backlog-gb", type=float, default=2.0, help="size of the backlog in GB")
    parser.add_argument("--full", action="store_true", help=f"a backlog of {FULL_GB:g} GB")
    parser.add_argument("--folder", type=Path, help="where the queues keep their files for the time being")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    gigabytes = FULL_GB if options.full else options.backlog_gb

    machine.keep_to_cores()
    with tempfile.TemporaryDirectory(prefix="telemetry-bench-", dir=options.folder) as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < (gigabytes * 1.2 + 4) * 1e9:
            raise SystemExit(f"{folder} has {free / 1e9:.0f} GB free; name another with --folder, or less backlog")
        command = "make bench-queue" + (f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else "")
        about = {**machine.describe(folder), "command": command}
        if not options.json:
            print("\n".join(f"{key:<10} {value}" for key, value in about.items()))
        done: list[Figure] = []
        size = Size(options.factor, options.rounds, folder, gigabytes)
        for key, measure in FIGURES.items():
            if options.only and key not in options.only:
                continue
            done.append(measure(size))
            if not options.json:
                print(f"\n{done[-1].text()}", flush=True)
    about["load after"] = f"{os.getloadavg()[0]:.1f}"
    if options.json:
        print(orjson.dumps({**about, "figures": [asdict(figure) for figure in done]}).decode())
    else:
        print(f"\nload       {about['load after']} after")


if __name__ == "__main__":
    main()
