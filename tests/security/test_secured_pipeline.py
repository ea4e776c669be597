"""The whole pipeline under mTLS and tokens of no more rights than needed, and what its logs say of them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from telemetry.queue.client import Credentials
from telemetry.runtime.token_file import add_token, remove_token
from telemetry.runtime.tokens import Right, Role
from tests.security.certificates import Authority

WAIT_S = 60
SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "nvidia_smi_sample.csv"
TOKENS: dict[str, tuple[Role, dict[Right, tuple[str, ...]]]] = {
    "streamer": (Role.NONE, {Right.PUBLISH: ("telemetry", "telemetry.quarantine")}),
    "collector": (
        Role.NONE,
        {
            Right.PUBLISH: ("telemetry", "telemetry.quarantine", "live"),
            Right.SUBSCRIBE: ("telemetry", "telemetry.quarantine"),
        },
    ),
    "gateway": (Role.VIEW, {Right.SUBSCRIBE: ("live",)}),
    "alerts": (Role.NONE, {Right.SUBSCRIBE: ("live",)}),
    "viewer": (Role.VIEW, {}),
}
"""The rights that docs/security.md names for each process."""


class Process:
    """A process and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.log: list[str] = []
        self._ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read())

    async def ready(self) -> dict[str, Any]:
        """What its log says when it is ready."""
        async with asyncio.timeout(WAIT_S):
            return await self._ready

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.log.append(line.decode())
            if '"message":"ready"' in self.log[-1]:
                self._ready.set_result(json.loads(line))
        if not self._ready.done():
            self._ready.set_exception(AssertionError("".join(self.log)))


@asynccontextmanager
async def started(name: str, *arguments: object) -> AsyncIterator[Process]:
    """A process of the pipeline, until the end."""
    command = [sys.executable, "-m", "telemetry", *name.split(), *map(str, arguments), "--log-level", "debug"]
    process = Process(await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE))
    try:
        yield process
    finally:
        await process.stop()


class Keys:
    """Certificates and tokens for all processes."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.ca = authority.path
        self.tokens = folder / "tokens"
        self.secrets = {}
        for name, (role, rights) in TOKENS.items():
            self.secrets[name] = add_token(self.tokens, name, role, rights)
            (folder / f"{name}.token").write_text(self.secrets[name])
        self.pairs = {name: authority.sign(name) for name in ("queue", *TOKENS)}

    def listens(self, name: str) -> Sequence[object]:
        pair = self.pairs[name]
        return ("--tls-cert", pair.cert, "--tls-key", pair.key, "--tls-client-ca", self.ca, "--tokens", self.tokens)

    def connects(self, name: str) -> Sequence[object]:
        pair = self.pairs[name]
        token = self.folder / f"{name}.token"
        return ("--ca", self.ca, "--client-cert", pair.cert, "--client-key", pair.key, "--token-file", token)

    def credentials(self, name: str) -> Credentials:
        return Credentials(self.ca, self.pairs[name].cert, self.pairs[name].key, self.folder / f"{name}.token")


async def test_data_arrives_under_mtls_and_tokens_and_no_secret_is_logged(tmp_path: Path, authority: Authority) -> None:
    keys = Keys(tmp_path, authority)
    any_port = ("--grpc-port", 0, "--http-port", 0)
    processes: dict[str, Process] = {}
    async with started("queue", "--data-dir", tmp_path / "queue", *any_port, *keys.listens("queue")) as queue:
        processes["queue"] = queue
        address = f"127.0.0.1:{(await queue.ready())['grpc']}"
        both = {name: (*keys.listens(name), *keys.connects(name)) for name in TOKENS}
        async with (
            started(
                "collector",
                *("--queue", address, "--data-dir", tmp_path / "store", "--grpc-port", 0, "--health-port", 0),
                *both["collector"],
            ) as collector,
            started(
                "alerts serve", "--queue", address, "--data-dir", tmp_path / "alerts", *any_port, *both["alerts"]
            ) as alerts,
            started(
                "streamer", SAMPLE, "--queue", address, "--rate", 200, "--http-port", 0, *both["streamer"]
            ) as streamer,
        ):
            processes |= {"collector": collector, "alerts": alerts, "streamer": streamer}
            places = (
                *("--queue", address, "--collector", f"localhost:{(await collector.ready())['grpc']}"),
                *("--streamer-http", f"127.0.0.1:{(await streamer.ready())['http']}"),
                *("--alerts", f"127.0.0.1:{(await alerts.ready())['grpc']}"),
                *("--dashboard-port", 0, "--api-port", 0),
            )
            async with started("gateway", *places, *both["gateway"]) as gateway:
                processes["gateway"] = gateway
                api = f"https://127.0.0.1:{(await gateway.ready())['api']}/api/v1"
                await _watch(api, keys, f"https://127.0.0.1:{(await alerts.ready())['http']}")
    log = {name: "".join(process.log) for name, process in processes.items()}
    assert {name: "Traceback" in text for name, text in log.items()} == dict.fromkeys(log, False)
    secrets = [*keys.secrets.values(), "PRIVATE KEY", "Bearer "]
    secrets += [pair.key.read_text().splitlines()[1] for pair in keys.pairs.values()]
    secrets += [json.loads(line)["sha256"] for line in keys.tokens.read_text().splitlines()]
    assert [(name, secret) for name, text in log.items() for secret in secrets if secret in text] == []
    assert all('"level":"debug"' in text for text in log.values())


async def _watch(api: str, keys: Keys, alerts: str) -> None:
    """See data arrive by each way that there is."""
    context = keys.credentials("viewer").tls_context()
    assert context is not None
    token = {"Authorization": f"Bearer {keys.secrets['viewer']}"}
    async with httpx.AsyncClient(verify=context, headers=token, timeout=30) as client, asyncio.timeout(WAIT_S):
        while not (fleet := (await client.get(f"{api}/gpus")).json()).get("gpus"):
            await asyncio.sleep(0.1)
        gpu = fleet["gpus"][0]["gpu"]
        async with client.stream("GET", f"{api}/stream") as events:
            async for line in events.aiter_lines():
                if line.startswith("data:") and gpu in line:
                    break
        answer = await client.get(f"{api}/queue/stats")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        stats = answer.json()
        assert {topic["topic"] for topic in stats["topics"]} >= {"telemetry", "live"}
        services = {each["name"]: each["state"] for each in (await client.get(f"{api}/health")).json()["services"]}
        assert set(services.values()) == {"ok"}, services
        assert (await client.get(f"{api}/alerts/rules")).json()["groups"]
        while not (await client.get(f"{alerts}/stats")).json()["feed_last"]:
            await asyncio.sleep(0.1)
        remove_token(keys.tokens, "viewer")
        while (await client.get(f"{api}/gpus")).status_code != 401:
            await asyncio.sleep(0.1)
