"""The queue as somebody meets it who has only grpcurl: everything by reflection, one message a call."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from telemetry.queue.server import QueueServer

GRPCURL = shutil.which("grpcurl") or shutil.which("grpcurl", path=str(Path(sys.executable).parent))
QUEUE, ADMIN = "telemetry.v1.QueueService", "telemetry.v1.QueueAdminService"

pytestmark = pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")

Grpcurl = Callable[..., Awaitable[str]]


@pytest.fixture
async def grpcurl(server: QueueServer) -> Grpcurl:
    """Runs grpcurl against the server; what it prints must be a success."""

    async def run(*arguments: str, request: Any = None) -> str:
        data = () if request is None else ("-d", json.dumps(request))
        process = await asyncio.create_subprocess_exec(
            *(str(GRPCURL), "-plaintext", "-emit-defaults", *data, f"127.0.0.1:{server.grpc_port}", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()

    return run


def objects(text: str) -> list[dict[str, Any]]:
    """The JSON objects that grpcurl has printed one after the other."""
    decoder, found = json.JSONDecoder(), []
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:].strip()
    return found


async def test_services_and_their_public_messages_can_be_listed_and_described(grpcurl: Grpcurl) -> None:
    services = (await grpcurl("list")).split()
    assert services == ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection", ADMIN, QUEUE]
    assert (await grpcurl("list", QUEUE)).split() == [f"{QUEUE}.{method}" for method in ("Ack", "Publish", "Subscribe")]
    assert len((await grpcurl("list", ADMIN)).split()) == 16
    described = await grpcurl("describe", "telemetry.v1.PublishRequest")
    assert ".telemetry.v1.MessageBatch batch = 5;" in described
    assert "rpc Publish ( stream .telemetry.v1.PublishRequest )" in await grpcurl("describe", QUEUE)


async def test_a_message_can_be_published_received_and_acked(server: QueueServer, grpcurl: Grpcurl) -> None:
    data = base64.b64encode("grüße".encode()).decode()
    message = {"data": data, "attributes": {"content-type": "text/plain"}}
    publish = {"request_id": "one", "topic": "letters", "batch": {"messages": [message]}}
    (published,) = objects(await grpcurl(f"{QUEUE}/Publish", request=publish))
    assert published["request_id"] == "one"
    assert published["receipt"] == {"partition": 0, "base_offset": "0", "duplicate": False}

    start = {"topics": ["letters"], "group": "readers", "flow": {"messages": 1}}
    subscriber = await asyncio.create_subprocess_exec(
        *(str(GRPCURL), "-plaintext", "-d", json.dumps({"start": start}), f"127.0.0.1:{server.grpc_port}"),
        f"{QUEUE}/Subscribe",
        stdout=asyncio.subprocess.PIPE,
    )
    assert subscriber.stdout is not None
    printed = ""
    async with asyncio.timeout(20):
        while not printed.endswith("\n}\n") or "delivery_id" not in printed:
            printed += (await subscriber.stdout.readline()).decode()
    started, delivered = objects(printed)
    assert started["started"]["group"] == "readers"
    assert delivered["delivery"]["batch"]["messages"] == [message]

    delivery_id = delivered["delivery"]["delivery_id"]
    entries = [{"delivery_id": delivery_id, "outcome": "ACK_OUTCOME_ACK"}]
    (acked,) = objects(await grpcurl(f"{QUEUE}/Ack", request={"request_id": "a", "entries": entries}))
    assert acked["results"] == [{"delivery_id": delivery_id, "status": "ACK_STATUS_OK"}]
    assert await subscriber.wait() == 0, "its one permit is used up and settled, so its stream has ended"
    (counted,) = objects(await grpcurl(f"{ADMIN}/GetStats", request={}))
    assert counted["stats"]["groups"][0]["acked"] == "1"


async def test_each_service_reports_its_health(grpcurl: Grpcurl) -> None:
    for service in ("", QUEUE, ADMIN):
        (answer,) = objects(await grpcurl("grpc.health.v1.Health/Check", request={"service": service}))
        assert answer == {"status": "SERVING"}


async def test_a_wrong_request_is_answered_with_the_field(grpcurl: Grpcurl) -> None:
    (answer,) = objects(await grpcurl(f"{QUEUE}/Publish", request={"topic": "Not A Topic"}))
    assert answer["error"]["code"] == 3
    assert answer["error"]["details"][0]["field_violations"][0]["field"] == "topic"
    with pytest.raises(AssertionError, match="InvalidArgument"):
        await grpcurl(f"{QUEUE}/Subscribe", request={"start": {}})
