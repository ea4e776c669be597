"""The dashboard in a real browser over the real pipeline: one that runs the sample, with a GPU that is too hot."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from telemetry.runtime.grpc_server import CHANNEL_OPTIONS
from telemetry.v1 import queue_pb2
from tests.e2e.processes import ROOT, Command, Start, free_ports, start_up, starting, wait_until
from tests.integration.queue_server.wire_client import Client, read, read_delivery

# Chromium's own calls home would only fail on a closed network.
FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
DESKTOP: Final = (1440, 900)
PHONE: Final = (390, 844)
SLOW_MS: Final = 30_000
HOT: Final = "GPU-00000000-dead-beef-0000-000000000001"
COOL: Final = "GPU-00000000-dead-beef-0000-000000000002"
RULES: Final = """
groups:
  - name: test
    interval: 1s
    rules:
      - alert: GpuTooHot
        expr: DCGM_FI_DEV_GPU_TEMP > 90
        labels: {severity: critical}
        annotations:
          summary: GPU {{ $labels.gpu }} of {{ $labels.Hostname }} is at {{ $value }} °C
"""


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with starting(tmp_path_factory.mktemp("dashboard")) as start:
        yield start


@pytest.fixture(scope="module")
def pipeline(started: Start, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """`telemetry up` with the sample and two GPUs of node-9, one of them always at 95 °C."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "rules.yaml").write_text(RULES)
    lines = [f"{gpu},node-9,{index},{degrees},50\n" for index, (gpu, degrees) in enumerate(((HOT, 95), (COOL, 40)))]
    (folder / "hot.csv").write_text("uuid,hostname,index,temperature,utilization\n" + "".join(lines) * 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELEMETRY_ALERTS_RULES", str(folder / "rules.yaml"))
        sample = ROOT / "examples" / "dcgm_sample.csv.gz"
        running = start_up(started, sample, folder / "hot.csv", data_dir=folder / "data")
    fires = f"{running.api}/alerts?state=firing"
    wait_until(lambda: running.get(fires)["total"] == 1, "the alert fires")
    return running


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that may say nothing on the browser's console."""
    width, height = getattr(request, "param", DESKTOP)
    opened = browser.new_page(viewport={"width": width, "height": height})
    opened.set_default_timeout(SLOW_MS)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield opened
    opened.close()
    assert problems == []


both_sizes = pytest.mark.parametrize("page", [DESKTOP, PHONE], ids=["desktop", "phone"], indirect=True)

# Charts follow a screen that has become smaller some frames later.
OVERFLOW: Final = """async () => {
  const { documentElement: page } = document;
  for (let frame = 0; page.scrollWidth > page.clientWidth && frame < 300; frame++)
    await new Promise(requestAnimationFrame);
  return page.scrollWidth - page.clientWidth;
}"""


def shoot(page: Page, name: str) -> None:
    """Keep a picture when TELEMETRY_SCREENSHOTS names a folder; look that nothing reaches out of the screen."""
    if folder := os.environ.get("TELEMETRY_SCREENSHOTS"):
        width = (page.viewport_size or {"width": 0})["width"]
        page.screenshot(path=Path(folder) / f"{name}-{width}.png")
    assert page.evaluate(OVERFLOW) <= 0, f"{name} is wider than the screen"


def shown(locator: Locator) -> None:
    expect(locator).to_be_visible(timeout=SLOW_MS)


def says(locator: Locator, text: str) -> None:
    expect(locator).to_contain_text(text, timeout=SLOW_MS)


def run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine while the browser's loop has this thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result(timeout=60)


@both_sizes
def test_fleet_gpu_queue_and_health_show_the_running_pipeline(pipeline: Command, page: Page) -> None:
    address = pipeline.url("dashboard", "")
    page.goto(address)
    shown(page.get_by_test_id("fleet-heatmap"))
    says(page.get_by_test_id("kpi-reporting"), "34")
    says(page.get_by_test_id("live-state"), "ago")
    shoot(page, "fleet")

    gpu = next(each["gpu"] for each in pipeline.get(f"{pipeline.api}/gpus")["gpus"] if each["host"] == "node-1")
    page.goto(f"{address}/gpu/{gpu}")
    charts = page.get_by_test_id("gpu-charts")
    shown(charts.locator("canvas").first)
    before = charts.inner_text()
    page.wait_for_function(
        "before => document.querySelector('[data-testid=gpu-charts]').innerText !== before", arg=before
    )
    shoot(page, "gpu")

    page.goto(f"{address}/queue")
    says(page.get_by_test_id("queue-topics"), "telemetry")
    says(page.get_by_test_id("queue-groups"), "collectors")
    shoot(page, "queue")

    page.goto(f"{address}/services")
    for service in ("queue", "collector", "streamer", "gateway"):
        says(page.get_by_test_id("health-services"), service)
    shoot(page, "health")


@both_sizes
def test_an_alert_that_fires_is_seen_everywhere_and_silenced(pipeline: Command, page: Page) -> None:
    page.goto(pipeline.url("dashboard", "/"))
    says(page.get_by_test_id("kpi-alerts"), "1 critical")
    expect(page).to_have_title("(1) GPU fleet")
    page.get_by_test_id("kpi-alerts").click()

    says(page.get_by_test_id("alerts-headline"), "1 critical")
    row = page.get_by_test_id("alert-list").locator("li")
    expect(row).to_have_count(1)
    says(row, "GPU 0 of node-9 is at 95 °C")
    shoot(page, "alerts")
    row.get_by_role("link", name="is at 95 °C").click()
    detail = page.get_by_test_id("alert-detail")
    says(detail, "DCGM_FI_DEV_GPU_TEMP > 90")
    shown(page.get_by_test_id("alert-chart").locator("canvas"))
    expect(page).to_have_url(re.compile(r"/alerts\?alert=[0-9a-f]{16}$"))
    shoot(page, "alert")

    page.keyboard.press("s")
    says(page.get_by_test_id("silence-preview"), "Matches 1 alert of now")
    page.get_by_label("Who").fill("kim")
    page.get_by_label("Why").fill("new fans come tomorrow")
    shoot(page, "silence")
    page.get_by_role("button", name="Silence", exact=True).click()
    says(detail.get_by_test_id("silence"), "new fans come tomorrow")
    says(page.get_by_test_id("alerts-headline"), "All that fires is silenced.")
    expect(page).to_have_title("Alerts · GPU fleet")
    (silence,) = [s for s in pipeline.get(f"{pipeline.api}/alerts/silences")["silences"] if s["state"] == "active"]
    assert (silence["author"], silence["comment"]) == ("kim", "new fans come tomorrow")
    assert {"name": "UUID", "op": "=", "value": HOT} in silence["matchers"]

    detail.get_by_role("link", name="node-9 / 0").click()
    says(page.get_by_test_id("gpu-alerts"), "silenced")
    shown(page.get_by_role("figure", name=re.compile("^Temperature; GpuTooHot")))
    shoot(page, "gpu-alert")

    page.goto(pipeline.url("dashboard", "/alerts?tab=silences"))
    shown(page.get_by_test_id("silence"))
    shoot(page, "silences")
    page.get_by_role("button", name="End now").click()
    expect(page.get_by_test_id("silence")).to_have_count(0, timeout=SLOW_MS)
    says(page.get_by_test_id("alerts-headline"), "1 critical")
    page.get_by_role("link", name="History").click()
    says(page.get_by_test_id("alert-events"), "GpuTooHot")
    shoot(page, "history")


def test_messages_are_browsed_and_dead_letters_replayed_and_discarded(pipeline: Command, page: Page) -> None:
    letters = (b"first letter", b"second letter", b"third letter")
    run_apart(bury(pipeline, "mail", *letters, dead_letter_topic="graves"))
    page.goto(pipeline.url("dashboard", "/queue?tab=messages&topic=mail&from=earliest"))
    message = page.get_by_test_id("message")
    expect(message).to_have_count(3, timeout=SLOW_MS)
    message.nth(1).get_by_role("button").click()
    says(message.nth(1).get_by_label("Text of the message"), "second letter")
    expect(page).to_have_url(re.compile("message=0%3A1"))
    page.get_by_label("Topic").select_option("live")
    says(message.first, "GPU")
    shoot(page, "messages")

    page.get_by_role("link", name="Dead letters 3").click()
    expect(message).to_have_count(3, timeout=SLOW_MS)
    says(message.first, "no good")
    message.first.get_by_role("button").click()
    says(page.get_by_test_id("origin"), "mail-readers")
    expect(page.get_by_label("Topic")).to_have_value("graves")
    shoot(page, "dead-letters")
    page.get_by_label("Choose 0:0").check()
    page.get_by_role("button", name="Replay 1…").click()
    page.get_by_role("button", name="Replay", exact=True).click()
    says(page.get_by_test_id("queue-tasks"), "Replayed 1 dead letter")
    expect(message).to_have_count(2, timeout=SLOW_MS)
    page.get_by_role("button", name="Discard all…").click()
    says(page.get_by_test_id("letters-confirm"), "Nothing brings them back")
    page.get_by_role("button", name="Discard", exact=True).click()
    says(page.get_by_test_id("queue-letters"), "no dead letters here any more")
    (replayed,) = pipeline.get(f"{pipeline.api}/queue/topics/mail/messages", **{"from": "3"})["messages"]
    assert replayed["text"] == "first letter"

    page.get_by_role("link", name="Changes").click()
    says(page.get_by_test_id("queue-changes"), "dead-letters.replay")
    page.get_by_role("link", name="Overview").click()
    page.get_by_test_id("queue-topics").get_by_role("link", name="graves").click()
    says(page.get_by_test_id("queue-letters"), "no dead letters here any more")


def test_a_group_is_moved_after_what_would_happen_has_been_said(pipeline: Command, page: Page) -> None:
    run_apart(bury(pipeline, "post", b"a letter"))
    page.goto(pipeline.url("dashboard", "/queue"))
    page.get_by_role("button", name="Move post-readers…").click()
    page.get_by_label("It goes on at").select_option("earliest")
    page.get_by_label("Of the topic").select_option("post")
    page.get_by_role("button", name="See what would happen").click()
    says(page.get_by_test_id("seek-effect"), "1 message would be delivered again")
    before = pipeline.get(f"{pipeline.api}/queue/groups/post-readers")["positions"]
    page.get_by_role("button", name="Move it").click()
    shown(page.get_by_test_id("seek-done"))
    after = pipeline.get(f"{pipeline.api}/queue/groups/post-readers")["positions"]
    assert [(each["topic"], each["acked_through"]) for each in before if each["topic"] == "post"] == [("post", 1)]
    assert [(each["topic"], each["acked_through"]) for each in after if each["topic"] == "post"] == [("post", 0)]


def test_a_gateway_without_alerts_and_without_admin_says_so(
    pipeline: Command, started: Start, browser: Browser
) -> None:
    dashboard, api = free_ports(2)
    queue = f"127.0.0.1:{pipeline.ports['queue']}"
    collector = f"127.0.0.1:{pipeline.ports['collector']}"
    gateway = started(
        "gateway", "--queue", queue, "--collector", collector, "--alerts", f"127.0.0.1:{free_ports(1)[0]}",
        "--dashboard-port", dashboard, "--api-port", api, ports={"dashboard": dashboard, "api": api},
    )  # fmt: skip
    wait_until(lambda: gateway.get(f"{gateway.api}/fleet")["gpus"], "the gateway answers")
    page = browser.new_page()
    page.goto(gateway.url("dashboard", "/alerts"))
    says(page.get_by_test_id("empty"), "The alert service does not answer")
    says(page.get_by_test_id("empty"), "telemetry alerts serve")
    page.goto(gateway.url("dashboard", "/"))
    says(page.get_by_test_id("kpi-alerts"), "alert service is away")
    page.goto(gateway.url("dashboard", "/queue"))
    page.get_by_role("button", name="Move collectors…").click()
    says(page.get_by_test_id("role-note"), "--admin")
    page.close()


def test_a_gateway_with_tokens_asks_for_one(
    pipeline: Command, started: Start, browser: Browser, tmp_path: Path
) -> None:
    made = started("token", "create", "kim", "--role", "view", "--tokens", tmp_path / "tokens")
    assert made.process.wait(timeout=30) == 0
    (token,) = re.findall(r"^\S{20,}$", made.log.read_text(), re.MULTILINE)
    dashboard, api = free_ports(2)
    gateway = started(
        "gateway", "--queue", f"127.0.0.1:{pipeline.ports['queue']}", "--tokens", tmp_path / "tokens",
        "--collector", f"127.0.0.1:{pipeline.ports['collector']}",
        "--alerts", f"127.0.0.1:{pipeline.ports['alerts']}",
        "--dashboard-port", dashboard, "--api-port", api, ports={"dashboard": dashboard, "api": api},
    )  # fmt: skip
    wait_until(lambda: gateway.client.get(gateway.url("api", "/health")).status_code == 200, "the gateway answers")
    page = browser.new_page()
    page.goto(gateway.url("dashboard", "/alerts"))
    page.get_by_label("Token").fill("no such token")
    page.get_by_role("button", name="Sign in").click()
    says(page.get_by_test_id("sign-in"), "This token is not accepted.")
    assert look(page) == []
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    says(page.get_by_test_id("alerts-headline"), "1 critical")
    says(page.get_by_test_id("live-state"), "Live")
    page.get_by_test_id("alert-list").get_by_role("link").first.click()
    page.get_by_role("button", name="Silence…").click()
    says(page.get_by_test_id("role-note"), "needs a token with the role operate")
    page.close()


READY: Final = "main :is(h1, h2, table, canvas, ul, [data-testid])"
ALIKE: Final = ["tr:nth-child(n+4)", "li:nth-child(n+4)", "figure:nth-child(n+4)", "td:nth-child(n+11)"]
"""What comes after the first few of a kind holds nothing new, and axe takes its time."""
Opened = tuple[str, Callable[[Page], None]]
"""What opens on a page: the part that is looked at then, and how to open it. Escape closes it."""
DIALOG: Final = "dialog[open]"


def search_for_a_host(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("node-9")


def see_the_move(page: Page) -> None:
    page.get_by_role("button", name="Move notes-readers…").click()
    page.get_by_label("It goes on at").select_option("earliest")
    page.get_by_role("button", name="See what would happen").click()
    shown(page.get_by_test_id("seek-effect"))


def press(name: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_role("button", name=name).first.click()


PAGES: Final[dict[str, tuple[Opened, ...]]] = {
    "/": (
        (DIALOG, lambda page: page.keyboard.press("?")),
        ("[role=listbox]", search_for_a_host),
        ("main [role=status]", lambda page: page.get_by_test_id("fleet-heatmap").press("ArrowRight")),
    ),
    f"/gpu/{HOT}": (("main table", press("Show as table")),),
    "/alerts": (),
    "/alerts?alert=ALERT": ((DIALOG, press("Silence…")),),
    "/alerts?tab=rules": (),
    "/alerts?tab=history": (),
    "/queue": (("details[open]", lambda page: page.locator("summary").first.click()), (DIALOG, see_the_move)),
    "/queue?tab=messages&topic=live": (("main li:first-child", press("records")),),
    "/queue?tab=letters&topic=notes.dead-letter": ((DIALOG, press("Replay all…")), (DIALOG, press("Discard all…"))),
    "/queue?tab=changes": (),
    "/services": (),
    "/nowhere": (),
}


def test_axe_finds_nothing_on_any_page_and_in_nothing_that_opens(pipeline: Command, page: Page) -> None:
    (alert,) = pipeline.get(f"{pipeline.api}/alerts", gpu=HOT)["alerts"]
    run_apart(bury(pipeline, "notes", b"a note"))
    found: list[str] = []
    for path, opened in PAGES.items():
        page.goto(pipeline.url("dashboard", path.replace("ALERT", alert["id"])))
        shown(page.locator(READY).first)
        expect(page.locator("[aria-busy=true]")).to_have_count(0, timeout=SLOW_MS)
        found += look(page)
        for part, open_it in opened:
            open_it(page)
            shown(page.locator(part).first)
            found += look(page, part)
            page.keyboard.press("Escape")
    assert found == []


def look(page: Page, part: str = "html") -> list[str]:
    """What axe finds in a part of a page as it is now, in both sizes and themes. It is left in the desktop's."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(Axe().axe_script)
    found = []
    # Only colours are other ones in the dark. In this order the fewest things are drawn anew.
    contrast = {"runOnly": ["color-contrast"]}
    for (width, height), schemes in ((PHONE, ("dark", "light")), (DESKTOP, ("light", "dark"))):
        page.set_viewport_size({"width": width, "height": height})
        shoot(page, re.sub(r"\W+", "-", f"axe/{page.url.split('/', 3)[3]} {part}"))
        for scheme in schemes:
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            violations = page.evaluate(RUN_AXE, [part, ALIKE, contrast if scheme == "dark" else {}])
            found += [f"{page.url} {part}, {width} wide, {scheme}: {violation}" for violation in violations]
    return found


RUN_AXE: Final = """async ([part, alike, options]) => {
  const found = await axe.run({ include: [part], exclude: alike }, { ...options, resultTypes: ["violations"] });
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html }) => html.slice(0, 200))}`);
}"""


def test_an_alert_that_fires_and_ends_is_told_by_the_stream(pipeline: Command, page: Page) -> None:
    """Once the list has been read, it gets no answer any more: only the stream can tell what comes then."""
    asked: list[Route] = []

    def answer_once(route: Route) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.continue_()

    page.route("**/api/v1/alerts?*", answer_once)
    page.goto(pipeline.url("dashboard", "/alerts"))
    rows = page.get_by_test_id("alert-list").locator("li")
    expect(rows).to_have_count(1, timeout=SLOW_MS)
    expect(page.get_by_test_id("live-state")).to_have_attribute("data-phase", "live", timeout=SLOW_MS)

    run_apart(report(pipeline, 99))
    says(rows.first, "GPU 7 of node-9 is at 99 °C")
    run_apart(report(pipeline, 50))
    expect(rows).to_have_count(1, timeout=SLOW_MS)
    says(rows.first, "GPU 0 of node-9")


async def report(pipeline: Command, degrees: float) -> None:
    """Publish a record of a GPU that nobody has heard of so far."""
    fields = {"uuid": "GPU-late", "hostname": "node-9", "index": "7", "temperature": degrees}
    data = json.dumps({"timestamp": datetime.now(UTC).isoformat(), "fields": fields}).encode()
    message = queue_pb2.Message(data=data, attributes={"content-type": "application/json"})
    async with grpc.aio.insecure_channel(f"127.0.0.1:{pipeline.ports['queue']}", options=CHANNEL_OPTIONS) as channel:
        call = Client(channel).queue.Publish()
        await call.write(queue_pb2.PublishRequest(topic="telemetry", batch=queue_pb2.MessageBatch(messages=[message])))
        await call.done_writing()
        assert (await read(call)).HasField("receipt")


async def bury(pipeline: Command, topic: str, *data: bytes, dead_letter_topic: str = "") -> None:
    """Publish messages and have the group `TOPIC-readers` give them up."""
    address = f"127.0.0.1:{pipeline.ports['queue']}"
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        wire = Client(channel)
        for each in data:
            await wire.publish(topic, each)
        call = await wire.subscribe(topic, group=f"{topic}-readers", dead_letter_topic=dead_letter_topic)
        for _ in data:
            delivery = await read_delivery(call)
            await wire.settle(delivery.delivery_id, outcome=queue_pb2.ACK_OUTCOME_TERMINATE, reason="no good")
        call.cancel()
