"""A real Prometheus scrapes the gateway of a real pipeline, and finds what dcgm-exporter's dashboards ask for."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.server import GatewayServer
from telemetry.codec import frame_of
from telemetry.model import Record
from tests.integration.pipelines import Pipeline, pipeline
from tests.integration.reference import find_program
from tests.unit.gateway.services import gateway_to

WAIT_S: Final = 60.0
GPUS: Final = ("GPU-a", "GPU-b", "GPU-c", "GPU-d")
LABELS: Final = {"model": "NVIDIA H100 80GB HBM3", "pci_bus_id": "00000000:1B:00.0", "driver_version": "535.129.03"}
METRICS: Final = {
    "temperature": 63.0,
    "power_draw": 412.5,
    "sm_clock": 1980.0,
    "utilization": 98.0,
    "memory_used": 73420.0,
    "tensor_active": 41.25,
    "energy": 12.5,
    "ecc_corrected": 3.0,
    "graphics_clock": 1980.0,
    "memory_free": 7587.0,
    "my metric": 7.0,
    "my-metric": 8.0,
    "DCGM_FI_DEV_PCIE_MAX_LINK_GEN": 5.0,
}

needs_promtool = pytest.mark.skipif(
    find_program("promtool") is None, reason="promtool is not there (scripts/servers.sh gets it): nothing is checked"
)
needs_prometheus = pytest.mark.skipif(
    find_program("prometheus") is None,
    reason="Prometheus is not there (scripts/servers.sh gets it): nothing is scraped",
)

DASHBOARD_12239: Final = {
    "DCGM_FI_DEV_GPU_TEMP{INSTANCE}": [63.0] * 4,
    "avg(DCGM_FI_DEV_GPU_TEMP{INSTANCE})": [63.0],
    "DCGM_FI_DEV_POWER_USAGE{INSTANCE}": [412.5] * 4,
    "sum(DCGM_FI_DEV_POWER_USAGE{INSTANCE})": [1650.0],
    "DCGM_FI_DEV_SM_CLOCK{INSTANCE} * 1000000": [1.98e9] * 4,
    "DCGM_FI_DEV_GPU_UTIL{INSTANCE}": [98.0] * 4,
    "DCGM_FI_DEV_FB_USED{INSTANCE}": [73420.0] * 4,
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{INSTANCE}": [0.4125] * 4,
}
"""What the panels of Grafana's dashboard 12239 ask for, and what is to be found."""


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Pipeline, GatewayServer, httpx.AsyncClient]]:
    """A pipeline that holds one record of each GPU, and a gateway."""
    async with pipeline(folder / "store") as pipe:
        queue, collector = (int(address.rpartition(":")[2]) for address in (pipe.queue, pipe.collector))
        async with gateway_to(queue, collector, static_folder=folder / "static") as gateway:
            await pipe.publish(frame_of([record(gpu, place) for place, gpu in enumerate(GPUS)]))
            await pipe.stored()
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.api_port}", timeout=30) as client:
                yield pipe, gateway, client


def record(gpu: str, place: int, **metrics: float) -> Record:
    return Record(datetime.now(UTC), gpu, METRICS | metrics, LABELS | {"host": "node-1", "index": str(place)})


def lint(text: str) -> list[str]:
    """What promtool has against metrics; what dcgm-exporter's own names make it say is left out."""
    promtool = find_program("promtool")
    assert promtool is not None
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
    assert done.returncode in (0, 3), done.stderr
    said = (done.stdout + done.stderr).splitlines()
    ours = [line for line in said if line and not line.startswith("DCGM_")]
    return [line for line in ours if "label names should be written in" not in line]  # `modelName` is dcgm-exporter's


@needs_promtool
async def test_every_exposition_is_clean_by_promtool(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, _, client):
        gpus = await client.get("/metrics/gpus")
        assert gpus.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert lint(gpus.text) == []
        # All processes are this one here, so these are the metrics of all.
        assert lint((await client.get("/metrics")).text) == []


async def test_gpus_are_written_as_dcgm_exporter_writes_them(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, _, client):
        text = (await client.get("/metrics/gpus")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    temperature = families["DCGM_FI_DEV_GPU_TEMP"]
    assert temperature.type == "gauge"
    assert temperature.documentation == "Temperature of the GPU core (in °C)."
    assert [sample.value for sample in temperature.samples] == [63.0] * 4
    assert temperature.samples[1].labels == {
        "gpu": "1",
        "UUID": "GPU-b",
        "pci_bus_id": "00000000:1B:00.0",
        "device": "nvidia1",
        "modelName": "NVIDIA H100 80GB HBM3",
        "Hostname": "node-1",
        "DCGM_FI_DRIVER_VERSION": "535.129.03",
    }
    assert "# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter\n" in text
    assert "\nDCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{" in text
    energy = families["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"].samples[0]
    assert energy.value == 12_500
    assert families["gpu_graphics_clock"].samples[0].value == 1980
    assert families["DCGM_FI_DEV_PCIE_MAX_LINK_GEN"].samples[0].value == 5


async def test_two_metrics_with_one_name_are_one_series(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, _, client):
        text = (await client.get("/metrics/gpus")).text
    assert text.count("# HELP gpu_my_metric ") == text.count("# TYPE gpu_my_metric ") == 1
    lines = [line for line in text.splitlines() if line.startswith("gpu_my_metric{")]
    assert len(lines) == len(GPUS)
    assert {line.rpartition(" ")[2] for line in lines} == {"7"}


async def test_gpus_that_are_silent_are_left_out(tmp_path: Path) -> None:
    async with running(tmp_path) as (pipe, _, client):
        old = Record(datetime.now(UTC) - timedelta(minutes=30), "GPU-old", {"temperature": 1.0}, {"host": "node-9"})
        await pipe.publish(frame_of([old]))
        await pipe.stored()
        assert "GPU-old" not in (await client.get("/metrics/gpus")).text
        assert "GPU-old" in (await client.get("/metrics/gpus", params={"max_age": "1h"})).text
        assert (await client.get("/metrics/gpus", params={"max_age": "1y"})).json()["parameter"] == "max_age"


@needs_prometheus
async def test_a_prometheus_that_scrapes_has_what_dashboard_12239_asks_for(tmp_path: Path) -> None:
    server = find_program("prometheus")
    assert server is not None
    async with running(tmp_path) as (_, gateway, _):
        target = f"127.0.0.1:{gateway.api_port}"
        jobs = "".join(
            f"  - job_name: {name}\n    metrics_path: {path}\n    static_configs: [{{targets: ['{target}']}}]\n"
            for name, path in {"gpus": "/metrics/gpus", "gateway": "/metrics"}.items()
        )
        config = tmp_path / "prometheus.yml"
        config.write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(server, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as prometheus:
                await until_found(prometheus, "count(up == 1) == 2")
                targets = (await prometheus.get("/api/v1/targets")).json()["data"]["activeTargets"]
                assert [each["lastError"] for each in targets] == ["", ""]
                answer = await prometheus.get("/api/v1/label/gpu/values", params={"match[]": "DCGM_FI_DEV_GPU_TEMP"})
                assert answer.json()["data"] == ["0", "1", "2", "3"]
                selector = f'{{instance=~"{target}", gpu=~"(0|1|2|3)"}}'
                for expression, expected in DASHBOARD_12239.items():
                    found = await query(prometheus, expression.replace("{INSTANCE}", selector))
                    assert found == expected, expression
                assert await query(prometheus, "count(telemetry_gateway_requests_total) > bool 0") == [1.0]
        finally:
            process.terminate()
            await process.wait()


async def query(prometheus: httpx.AsyncClient, expression: str) -> list[float]:
    answer: Any = (await prometheus.get("/api/v1/query", params={"query": expression})).json()
    assert answer["status"] == "success", answer
    return [float(each["value"][1]) for each in answer["data"]["result"]]


async def until_found(prometheus: httpx.AsyncClient, expression: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                if await query(prometheus, expression):
                    return
            except (httpx.TransportError, ValueError, AssertionError):
                pass  # it is starting
            await asyncio.sleep(0.1)
