"""The dashboard in a real browser over the real pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.processes import Command

# Chromium's own calls home would only fail on a closed network.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(params=[(1440, 900), (390, 844)], ids=["desktop", "phone"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height = request.param
    opened = browser.new_page(viewport={"width": width, "height": height})
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield opened
    opened.close()
    assert problems == []


def shoot(page: Page, name: str) -> None:
    """Keep a picture when TELEMETRY_SCREENSHOTS names a folder."""
    if folder := os.environ.get("TELEMETRY_SCREENSHOTS"):
        width = (page.viewport_size or {"width": 0})["width"]
        page.screenshot(path=Path(folder) / f"{name}-{width}.png")


def test_fleet_gpu_queue_and_health_show_the_running_pipeline(up: Callable[..., Command], page: Page) -> None:
    running = up()
    address = running.url("dashboard", "")
    page.goto(address)
    expect(page.get_by_test_id("fleet-heatmap")).to_be_visible()
    expect(page.get_by_test_id("kpi-reporting")).to_contain_text("32", timeout=30_000)
    expect(page.get_by_test_id("live-state")).to_contain_text("ago", timeout=30_000)
    shoot(page, "fleet")
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, "the page is wider than the screen"

    gpu = running.get(f"{running.api}/gpus")["gpus"][0]["gpu"]
    page.goto(f"{address}/gpu/{gpu}")
    charts = page.get_by_test_id("gpu-charts")
    expect(charts.locator("canvas").first).to_be_visible(timeout=20_000)
    before = charts.inner_text()
    page.wait_for_function(
        "before => document.querySelector('[data-testid=gpu-charts]').innerText !== before", arg=before, timeout=30_000
    )
    shoot(page, "gpu")

    page.goto(f"{address}/queue")
    expect(page.get_by_test_id("queue-topics")).to_contain_text("telemetry", timeout=20_000)
    expect(page.get_by_test_id("queue-groups")).to_contain_text("collectors")
    shoot(page, "queue")

    page.goto(f"{address}/services")
    for service in ("queue", "collector", "streamer", "gateway"):
        expect(page.get_by_test_id("health-services")).to_contain_text(service, timeout=20_000)
    shoot(page, "health")
