"""``python -m tests.simulation``: run many seeds, or replay one with a trace."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.world import Simulation


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="run only this one")
    parser.add_argument("--verbose", action="store_true", help="print what happens")
    parser.add_argument("--lying-syncs", action="store_true", help="on a disk whose syncs do nothing: must fail")
    parser.add_argument("--keep-going", action="store_true", help="report all failures, not only the first")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds) if options.seed is None else [options.seed]
    begun, failed, done = time.monotonic(), [], 0
    for done, seed in enumerate(seeds, 1):  # noqa: B007  (counts those that ran)
        simulation = Simulation(seed, tracing=options.verbose, lying_syncs=options.lying_syncs)
        try:
            simulation.run()
        except Exception as error:  # noqa: BLE001  (whatever it is, it is what was looked for)
            failed.append(seed)
            print("\n".join(simulation.lines), end="\n" if simulation.lines else "")
            if options.verbose:
                traceback.print_exception(error)
            print(f"seed {seed} failed: {type(error).__name__}: {error}")
            print(f"replay it with: python -m tests.simulation --seed {seed} --verbose")
            if not options.keep_going:
                break
        else:
            print("\n".join(simulation.lines), end="\n" if simulation.lines else "")
    print(f"{done} seeds in {time.monotonic() - begun:.1f} s, {len(failed)} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
