"""A real Alertmanager: what fires is in its list once, whatever happens to it or to us in between."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from telemetry.v1 import alerts_pb2
from tests.unit.alerts_service.fakes import scripted
from tests.unit.alerts_service.receiver import Receiver, receiver
from tests.unit.alerts_service.serving import Serving, alerts_server
from tests.unit.alerts_service.test_alert_service import matcher, silence

ROUNDS = int(os.environ.get("TELEMETRY_TEST_ROUNDS", "1"))
WAIT_S = 30.0
SERVERS = Path(__file__).resolve().parents[2] / ".venv" / "servers" / "usr"
TEMPLATES = "usr/share/prometheus/alertmanager"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = shutil.which("prometheus-alertmanager", path=f"{SERVERS / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip("prometheus-alertmanager is not here, so nothing is tried against a real Alertmanager")
    if Path("/", TEMPLATES).exists():
        return Path(found)
    # Debian's looks for its templates where the package would be installed; it is only unpacked. A path of the same
    # length that is relative makes it look below its working directory.
    there, here = f"/{TEMPLATES}".encode(), TEMPLATES.replace("/", "//", 1).encode()
    moved = tmp_path_factory.mktemp("alertmanager") / "alertmanager"
    moved.write_bytes(Path(found).read_bytes().replace(there, here))
    moved.chmod(0o755)
    return moved


class Manager:
    """An Alertmanager that can be killed and started again on the same port and folder."""

    def __init__(self, program: Path, folder: Path, pager: Receiver) -> None:
        self.program, self.folder = program, folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        folder.mkdir()
        config = folder / "alertmanager.yml"
        config.write_text(
            "route: {receiver: pager, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}\n"
            f"receivers: [{{name: pager, webhook_configs: [{{url: '{pager.url()}'}}]}}]\n"
        )
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            self.program,
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=SERVERS.parent if SERVERS.exists() else None,
        )

        def ready() -> bool:
            assert self.process is not None
            assert self.process.returncode is None
            try:
                return httpx.get(f"{self.url}/-/ready").status_code == 200
            except httpx.HTTPError:
                return False

        await until(lambda: asyncio.to_thread(ready))

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Stop it: by a kill it loses its alerts and what it does not write at once; by SIGTERM only its alerts."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()
            self.process = None

    async def entries(self) -> list[Any]:
        """Its list, by GPU."""
        async with httpx.AsyncClient() as client:
            found = (await client.get(f"{self.url}/api/v2/alerts")).json()
        return sorted(found, key=lambda each: each["labels"]["UUID"])

    async def listed(self) -> list[str]:
        """Alert and GPU of each entry of its list."""
        found = await self.entries()
        return sorted(f"{each['labels']['alertname']} {each['labels']['UUID']}" for each in found)


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition that no event announces."""
    async with asyncio.timeout(WAIT_S):
        while not await condition():
            await asyncio.sleep(0.05)


async def listed(manager: Manager, *expected: str) -> None:
    async def same() -> bool:
        return await manager.listed() == sorted(expected)

    try:
        await until(same)
    except TimeoutError:
        assert await manager.listed() == sorted(expected)


def pages(pager: Receiver) -> Counter[str]:
    """What reached the people behind it: each alert that fires or is resolved, how often."""
    seen: dict[tuple[str, str], str] = {}
    told: Counter[str] = Counter()
    for body in pager.got:
        for each in body["alerts"]:
            key = (each["labels"]["alertname"], each["labels"]["UUID"])
            if seen.get(key) != each["status"]:  # a group is sent whole again when one of it changes
                told[f"{key[1]} {each['status']}"] += 1
            seen[key] = each["status"]
    return told


@pytest.fixture
async def pager() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
async def both(program: Path, tmp_path: Path, pager: Receiver) -> AsyncIterator[list[Manager]]:
    """Two of them that know nothing of each other."""
    made = [Manager(program, tmp_path / f"am{number}", pager) for number in range(2)]
    try:
        for each in made:
            await each.start()
        yield made
    finally:
        for each in made:
            await each.stop()


@pytest.fixture
async def manager(program: Path, tmp_path: Path, pager: Receiver) -> AsyncIterator[Manager]:
    made = Manager(program, tmp_path / "am", pager)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


async def undelivered(serving: Serving) -> None:
    """Wait until it has noticed that an Alertmanager is away."""

    async def noticed() -> bool:
        return any(each.trouble for each in serving.server._notifiers)

    await until(noticed)


async def test_what_fires_is_listed_and_what_is_resolved_leaves_and_people_hear_of_both(
    tmp_path: Path, manager: Manager, pager: Receiver
) -> None:
    async with alerts_server(tmp_path / "data", scripted("Hot"), alertmanagers=[manager.url]) as serving:
        await serving.tick("a", "b", true={"Hot": {"a": 95.0, "b": 96.0}})
        await listed(manager, "Hot a", "Hot b")
        await until(lambda: heard(pager, "a firing", "b firing"))
        await serving.tick("a", "b", true={"Hot": {"b": 97.0}})
        await listed(manager, "Hot b")
        await until(lambda: heard(pager, "a firing", "b firing", "a resolved"))


async def heard(pager: Receiver, *expected: str) -> bool:
    return pages(pager) == Counter(expected)


async def test_an_alertmanager_that_is_killed_misses_nothing_and_lists_nothing_twice(
    tmp_path: Path, manager: Manager
) -> None:
    async with alerts_server(tmp_path / "data", scripted("Hot", "Slow"), alertmanagers=[manager.url]) as serving:
        for number in range(ROUNDS):
            before, ends, begins, brief = (f"{name}{number}" for name in ("before", "ends", "begins", "brief"))
            gpus = (before, ends, begins, brief)
            await serving.tick(*gpus, true={"Hot": {before: 95.0, ends: 95.0}})
            await listed(manager, f"Hot {before}", f"Hot {ends}")
            await manager.stop(signal.SIGKILL)
            await serving.tick(*gpus, true={"Hot": {before: 95.0, begins: 95.0, brief: 95.0}})
            await undelivered(serving)
            for second in range(60):  # a minute of evaluations, in which it changes all the time
                flapping = {brief: 95.0} if second % 2 else {}
                await serving.tick(*gpus, true={"Hot": {before: 95.0, begins: 95.0}, "Slow": flapping})
            await serving.tick(*gpus, true={"Hot": {before: 95.0, begins: 95.0}})
            await manager.start()
            await listed(manager, f"Hot {before}", f"Hot {begins}")
            await serving.tick(*gpus, true={})
            await listed(manager)


async def test_people_hear_once_of_what_began_while_alertmanager_was_away(
    tmp_path: Path, manager: Manager, pager: Receiver
) -> None:
    async with alerts_server(tmp_path / "data", scripted("Hot"), alertmanagers=[manager.url]) as serving:
        await serving.tick("a", "b", true={"Hot": {"a": 95.0}})
        await until(lambda: heard(pager, "a firing"))
        await manager.stop(signal.SIGTERM)
        await serving.tick("a", "b", true={"Hot": {"a": 95.0, "b": 95.0}})
        await undelivered(serving)
        await manager.start()
        await until(lambda: heard(pager, "a firing", "b firing"))
        await serving.tick("a", "b", true={})
        await until(lambda: heard(pager, "a firing", "b firing", "a resolved", "b resolved"))


async def test_each_of_several_alertmanagers_has_everything_though_one_is_away(
    tmp_path: Path, both: list[Manager]
) -> None:
    first, second = both
    urls = [each.url for each in both]
    async with alerts_server(tmp_path / "data", scripted("Hot"), alertmanagers=urls) as serving:
        await first.stop()
        await serving.tick("a", true={"Hot": {"a": 95.0}})
        await listed(second, "Hot a")
        await first.start()
        await listed(first, "Hot a")


async def test_after_a_restart_of_ours_the_list_is_the_same(tmp_path: Path, manager: Manager) -> None:
    rules = scripted("Hot")
    async with alerts_server(tmp_path / "data", rules, alertmanagers=[manager.url]) as serving:
        await serving.tick("a", "b", true={"Hot": {"a": 95.0, "b": 95.0}})
        await listed(manager, "Hot a", "Hot b")
        (_, before) = await manager.entries()
    async with alerts_server(tmp_path / "data", rules, alertmanagers=[manager.url]) as serving:
        await serving.tick("a", "b", true={"Hot": {"b": 95.0}})
        await listed(manager, "Hot b")
        (after,) = await manager.entries()
    assert (after["startsAt"], after["fingerprint"]) == (before["startsAt"], before["fingerprint"])


async def test_what_is_silenced_here_is_not_sent_and_is_when_the_silence_ends(tmp_path: Path, manager: Manager) -> None:

    async with alerts_server(tmp_path / "data", scripted("Hot"), alertmanagers=[manager.url]) as serving:
        made = (await serving.stub.CreateSilence(silence(matcher("UUID", "a")))).silence
        await serving.tick("a", "b", true={"Hot": {"a": 95.0, "b": 95.0}})
        await listed(manager, "Hot b")
        await serving.stub.ExpireSilence(alerts_pb2.ExpireSilenceRequest(silence_id=made.silence_id))
        await serving.tick("a", "b")
        await listed(manager, "Hot a", "Hot b")


async def test_alertmanager_takes_odd_labels_as_they_are(tmp_path: Path, manager: Manager) -> None:
    odd = 'a "quoted" \\ back\nline — ünïcode'
    async with alerts_server(tmp_path / "data", scripted("Hot"), alertmanagers=[manager.url]) as serving:
        await serving.tick(odd, true={"Hot": {odd: 95.0}})
        await listed(manager, f"Hot {odd}")
