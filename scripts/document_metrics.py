"""Write the tables of docs/metrics.md from what the processes define, or with --check say that they are stale.

Each process's modules are imported in a process of their own, so that a table has what that process exposes, no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

from scripts.parts import Parts, main

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
MODULES: Final = {
    "queue": "telemetry.cli.queue",
    "collector": "telemetry.cli.collector",
    "streamer": "telemetry.cli.streamer",
    "gateway": "telemetry.cli.gateway",
    "alerts": "telemetry.cli.alerts_serve",
}
"""What a process imports when it starts."""


class Described(NamedTuple):
    """A metric as Prometheus sees it. ``name`` is that of its samples, or that of a histogram without its endings."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def exposed(process: str) -> list[Described]:
    """What one process exposes. To be called in a process that has imported nothing else of ours."""
    import_module(MODULES[process])
    from prometheus_client import REGISTRY

    found = []
    for family in [*REGISTRY.collect(), *_made_when_scraped(process)]:
        # A family knows its labels, or whoever made it does, or its samples show them; nothing public tells.
        maker: Any = REGISTRY._names_to_collectors.get(family.name)
        labels = getattr(family, "_labelnames", getattr(maker, "_labelnames", None))
        if labels is None:
            labels = dict.fromkeys(name for sample in family.samples for name in sample.labels)
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found.append(Described(name, family.type, tuple(labels), family.documentation))
    return found


def _made_when_scraped(process: str) -> Iterable[Any]:
    """The metrics that are in no registry, of a process that has nothing yet but knows of everything."""
    if process == "queue":
        from telemetry.queue.core.types import LogStats, QueueStats
        from telemetry.queue.metrics import QueueCollector
        from telemetry.queue.stats import ServerStats

        return QueueCollector(ServerStats("", 0, 0, QueueStats("", (), (), LogStats(0, 0, 0, 0, 0, 0, 0)))).collect()
    if process == "collector":
        from telemetry.collector.counters import StatsMetrics as CollectorMetrics
        from telemetry.collector.counters import timestamp
        from telemetry.v1.query_pb2 import CollectorStats

        stats = CollectorStats(compaction_time=timestamp(0), checkpoint_time=timestamp(0))
        return CollectorMetrics(lambda: stats).collect()
    if process == "streamer":
        from telemetry.streamer.stats import Stats, StatsCollector

        return StatsCollector(Stats()).collect()
    if process == "alerts":
        from telemetry.alerts.engine import Snapshot
        from telemetry.alerts.stats import Facts
        from telemetry.alerts.stats import StatsMetrics as AlertsMetrics

        idle = SimpleNamespace(snapshot=Snapshot(feed_us=0), load_error="", watchers=())
        return AlertsMetrics(Facts(cast("Any", idle), cast("Any", None), (), 0)).collect()
    return ()


def parts() -> Parts:
    """The page's tables by name."""
    with ProcessPoolExecutor(max_tasks_per_child=1, mp_context=get_context("spawn")) as pool:
        by_process = dict(zip(MODULES, pool.map(exposed, MODULES), strict=True))
    users: dict[Described, list[str]] = {}
    for process, found in by_process.items():
        for metric in found:
            users.setdefault(metric, []).append(process)
    tables = {
        process: list(_table(metric for metric, of in users.items() if of == [process])) for process in by_process
    }
    every = _table(metric for metric, of in users.items() if len(of) == len(MODULES))
    several = [metric for metric, of in users.items() if 1 < len(of) < len(MODULES)]
    who = {metric: ", ".join(users[metric]) for metric in several}
    return {
        **tables,
        "every process": list(every),
        "several processes": list(_table(several, who)),
        "gpus": list(_gpus()),
    }


def _table(metrics: Iterable[Described], who: Mapping[Described, str] | None = None) -> Iterator[str]:
    yield f"| metric | type | labels |{' of |' if who else ''} |"
    yield f"| --- | --- | --- |{' --- |' if who else ''} --- |"
    for metric in sorted(metrics):
        labels = " ".join(f"`{label}`" for label in metric.labels)
        of = f" {who[metric]} |" if who else ""
        yield f"| `{metric.name}` | {metric.kind} | {labels} |{of} {_escaped(metric.text)} |"


def _gpus() -> Iterator[str]:
    """What the catalogue knows, under the names that `/metrics/gpus` has for it."""
    from telemetry.exposition import series_help, series_name, series_type
    from telemetry.model import METRICS

    yield "| metric | type | in the catalogue | |"
    yield "| --- | --- | --- | --- |"
    for metric in METRICS:
        text = _escaped(series_help(metric.name))
        yield f"| `{series_name(metric.name)}` | {series_type(metric.name)} | `{metric.name}` | {text} |"


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split())


if __name__ == "__main__":
    raise SystemExit(main(__doc__, PAGE, parts))
