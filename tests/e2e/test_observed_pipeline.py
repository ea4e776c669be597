"""What a running pipeline says of itself: to Prometheus and Grafana, in the docs' words, and in its logs."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from telemetry.model import METRICS
from telemetry.queue.client import QueueAdmin, QueueClientError
from tests.e2e.processes import ROOT, Command, free_ports, start_up, starting, wait_until
from tests.integration.reference import find_program

DASHBOARDS: Final = sorted((ROOT / "helm" / "telemetry-pipeline" / "dashboards").glob("*.json"))
PAGE: Final = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
PROCESSES: Final = {
    "queue": "queue-http",
    "collector": "collector-http",
    "streamer": "streamer-http",
    "gateway": "api",
    "alerts": "alerts-http",
}
GPUS: Final = [(host, index) for host in ("node-1", "node-2") for index in range(2)]

VARIABLES: Final = {"$host": "node-1|node-2", "$gpu": "0|1", "$__rate_interval": "1m"}
"""What Grafana puts in the place of variables: what is chosen, or what fits the interval of scrapes."""

LATER: Final = {"telemetry_collector_compaction_timestamp_seconds": "nothing is old enough to be compacted"}
"""Metrics that such a young pipeline does not have, and why."""

needs_prometheus = pytest.mark.skipif(
    find_program("prometheus") is None,
    reason="Prometheus is not there (scripts/servers.sh gets it): no dashboard is asked for",
)


def write_export(path: Path) -> None:
    """A DCGM export with every field that the catalogue knows, of GPUs that have an XID."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", "metric_name", "gpu_id", "uuid", "modelName", "Hostname", "value"])
        for second in range(10):
            for host, index in GPUS:
                name = f"GPU-{host}-{index}"
                for metric in METRICS:
                    if metric.dcgm:
                        value = 31 if metric.name == "xid_error" else 0.5
                        at = f"2026-03-02T09:00:{second:02}Z"
                        rows.writerow([at, metric.dcgm, index, name, "NVIDIA H100 80GB HBM3", host, value])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """`telemetry up` that replays an export and says everything in its logs; one call of the queue has failed."""
    folder = tmp_path_factory.mktemp("observed")
    write_export(folder / "export.csv")
    with starting(folder) as start:
        flags = ("--rate", 500, "--workers", 1, "--log-level", "debug")
        command = start_up(start, folder / "export.csv", *flags, data_dir=folder / "data")
        wait_until(lambda: command.get(f"{command.api}/gpus")["gpus"], "a GPU is listed")

        async def ask_in_vain() -> None:
            async with QueueAdmin(f"127.0.0.1:{command.ports['queue']}") as admin:
                with pytest.raises(QueueClientError, match="no-such-topic"):
                    await admin.topic("no-such-topic")

        asyncio.run(ask_in_vain())
        yield command


@pytest.fixture(scope="module")
def prometheus(running: Command, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes all processes once a second, in jobs called as the chart and Compose call them."""
    folder = tmp_path_factory.mktemp("prometheus")
    server = find_program("prometheus")
    assert server is not None
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": "telemetry",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{running.ports[port]}"], "labels": {"component": process}}
                    for process, port in PROCESSES.items()
                ],
            },
            {
                "job_name": "gpus",
                "metrics_path": "/metrics/gpus",
                "honor_labels": True,
                "static_configs": [{"targets": [f"127.0.0.1:{running.ports['api']}"]}],
            },
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    (port,) = free_ports(1)
    arguments = [
        *(f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen([server, *arguments], stderr=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        try:
            wait_until(lambda: client.get("/-/ready").status_code == 200, "Prometheus is there")
            yield client
        finally:
            process.terminate()


@needs_prometheus
@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: str(path.stem))
def test_every_query_of_a_dashboard_finds_something(prometheus: httpx.Client, path: Path) -> None:
    dashboard = json.loads(path.read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert targets

    variables = [each["definition"] for each in dashboard["templating"]["list"] if each["type"] == "query"]
    # Rates are there after the second scrape.
    wait_until(lambda: all(values_of(prometheus, definition) for definition in variables), "every variable has values")
    for target in targets:
        expression, legend = chosen(target["expr"]), target.get("legendFormat", "")
        wait_until(partial(shows, prometheus, expression, legend), expression)


def shows(prometheus: httpx.Client, expression: str, legend: str) -> bool:
    """Whether a query has values now, each with all labels that the legend shows."""
    answer = ask(prometheus, "query", query=expression)["result"]
    labels = set(re.findall(r"{{\s*(\w+)\s*}}", legend))
    complete = all(labels <= each["metric"].keys() for each in answer)
    return complete and any(not isnan(float(each["value"][1])) for each in answer)


def chosen(expression: str) -> str:
    """A query as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in re.sub(r'"[^"]*"', "", expression), expression
    return expression


def values_of(prometheus: httpx.Client, definition: str) -> Sequence[str]:
    """What a variable such as ``label_values(selector, label)`` offers."""
    match = re.fullmatch(r"label_values\((.+), (\w+)\)", definition)
    assert match, definition
    answer = ask(prometheus, f"label/{match[2]}/values", **{"match[]": chosen(match[1])})
    return list(answer)


def ask(prometheus: httpx.Client, what: str, **parameters: str) -> Any:
    answer = prometheus.get(f"/api/v1/{what}", params=parameters).json()
    assert answer["status"] == "success", answer
    return answer["data"]


@dataclass(frozen=True, slots=True)
class Documented:
    """A row of a table in docs/metrics.md."""

    kind: str
    labels: frozenset[str]
    text: str


def documented(process: str) -> dict[str, Documented]:
    """What the page says that a process exposes."""
    found = {}
    for part in (process, "every process", "several processes"):
        for line in table(part)[2:]:
            name, kind, labels, *of, text = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            if not of or process in of[0].split(", "):
                found[name.strip("`")] = Documented(kind, frozenset(re.findall(r"`(\w+)`", labels)), text)
    return found


def table(part: str) -> list[str]:
    return PAGE.split(f"<!-- generated: {part} -->\n", 1)[1].split("\n<!-- end -->", 1)[0].splitlines()


@pytest.mark.parametrize("process", PROCESSES)
def test_every_metric_that_a_process_exposes_is_in_the_docs_and_no_other(running: Command, process: str) -> None:
    def exposed() -> dict[str, Documented]:
        text = running.client.get(running.url(PROCESSES[process], "/metrics")).text
        return {
            f"{family.name}_total" if family.type == "counter" else family.name: Documented(
                family.type,
                frozenset(label for sample in family.samples for label in sample.labels if label != "le"),
                family.documentation,
            )
            for family in text_string_to_metric_families(text)
        }

    expected = documented(process)
    # Some wait for the first update, checkpoint or member.
    wait_until(lambda: expected.keys() - LATER.keys() <= exposed().keys(), "all metrics of the page are exposed")
    for name, found in exposed().items():
        begun = name.removesuffix("_created")
        known = expected.get(name) or expected.get(f"{begun}_total") or expected.get(begun)
        assert known is not None, f"{name} is not in docs/metrics.md"
        if name != begun:
            continue  # when counting began
        assert (found.kind, found.text) == (known.kind, known.text), name
        assert not found.labels or found.labels == known.labels, name


def test_every_series_of_gpus_that_the_catalogue_knows_is_in_the_docs(running: Command) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", "\n".join(table("gpus")), re.MULTILINE))
    text = running.client.get(running.url("api", "/metrics/gpus")).text
    found = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    assert len(found) > 30
    assert {name: rows.get(name) for name in found} == found


def test_one_id_leads_from_the_streamers_log_to_the_collectors(running: Command) -> None:
    logs = next(running.log.parent.glob("data/logs"))

    def both() -> list[tuple[dict[str, Any], dict[str, Any]]]:
        published = {line["trace_id"]: line for line in lines(logs / "streamer.log", "published")}
        stored = {line["trace_id"]: line for line in lines(logs / "collector.log", "stored")}
        return [(published[name], stored[name]) for name in published if name in stored]

    published, stored = wait_until(both, "something that was published is said to be stored")[0]
    assert "export.csv" in published["source"]
    assert (published["process"], stored["process"]) == ("streamer", "collector")
    assert stored["topic"] == "telemetry"
    assert stored["partition"] in range(8)
    assert stored["offset"] >= 0


def lines(log: Path, message: str) -> Iterator[dict[str, Any]]:
    for line in log.read_text(encoding="utf-8").splitlines():
        if f'"message":"{message}"' in line and line.startswith("{") and line.endswith("}"):
            yield json.loads(line)
