"""Whatever the OpenAPI document shows as an example, a real gateway accepts, or answers in the very same shape."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import Mock
from uuid import uuid4

import grpc
import httpx
import jsonschema_rs
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import create_app
from gateway.backends import Backends
from gateway.openapi import API
from telemetry.codec import CONTENT_TYPE, JSON_CONTENT_TYPE, encode_json
from telemetry.model import Record
from telemetry.queue.core.names import dead_letter_topic_of
from telemetry.v1 import queue_pb2
from tests.contract.whole_pipeline import Running, whole_pipeline
from tests.integration.queue_server.wire_client import Client

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENT: Final[dict[str, Any]] = create_app(Mock(spec=Backends)).openapi()
OPERATIONS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}
JSON: Final = "application/json"
EVENTS: Final = {"update": "LiveUpdate", "alerts": "AlertNews"}


def strict(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Holds an answer to a schema: every member is there, and no other. Problems have members of some problems only."""
    schemas = {
        name: each
        if name == "Problem" or "properties" not in each
        else each | {"required": list(each["properties"]), "additionalProperties": False}
        for name, each in DOCUMENT["components"]["schemas"].items()
    }
    whole = schema | {"components": {"schemas": schemas}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def named(schema: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{schema}"}


def bodies(operation: dict[str, Any]) -> list[dict[str, Any]]:
    """The examples of a request's body."""
    if "requestBody" not in operation:
        return []
    reference: str = operation["requestBody"]["content"][JSON]["schema"]["$ref"]
    examples: list[dict[str, Any]] = DOCUMENT["components"]["schemas"][reference.rpartition("/")[2]].get("examples", [])
    return examples


def shown(schema: Any) -> Iterator[Any]:
    """All examples within a parameter's schema, and its default."""
    if isinstance(schema, dict):
        yield from schema.get("examples", ())
        yield from ([schema["example"]] if "example" in schema else [])
        yield from ([schema["default"]] if schema.get("default") not in (None, "", []) else [])
        for each in schema.get("anyOf", ()):
            yield from shown(each)


@dataclass(frozen=True, slots=True)
class Case:
    """A request as it is documented: only what has to be given, but for one example."""

    name: str
    body: Any = None
    parameter: str = ""
    value: Any = None

    def __str__(self) -> str:
        what = f"{self.parameter}={self.value}" if self.parameter else json.dumps(self.body) if self.body else ""
        return f"{self.name} {what}".strip()


def cases() -> Iterator[Case]:
    for name, (_, _, operation) in OPERATIONS.items():
        bodies_shown: list[Any] = [*bodies(operation)] or [None]
        yield from (Case(name, body) for body in bodies_shown)
        for parameter in operation.get("parameters", ()):
            for value in shown(parameter | parameter["schema"]):
                yield Case(name, bodies_shown[0], parameter["name"], value)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with whole_pipeline(Path(tmp_path_factory.mktemp("examples"))) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.url, timeout=30) as client:
        yield client


class Stage:
    """Brings about what a path is to name."""

    def __init__(self, running: Running, client: httpx.AsyncClient) -> None:
        self._running, self._client = running, client

    async def names(self, operation: str) -> dict[str, str]:
        """Values for the parameters of an operation's path; they have whatever the operation needs."""
        _, path, _ = OPERATIONS[operation]
        wanted = {part.strip("{}") for part in path.replace(":", "/").split("/") if part.startswith("{")}
        values = {"gpu": "GPU-a", "host": "node-1", "topic": "telemetry", "group": "collectors"}
        if "task" in wanted or operation in ("listTasks", "listAuditEntries"):
            values["task"] = await self._task()
        if "silence" in wanted or operation == "listSilences":
            values["silence"] = await self._silence()
        if operation == "listAlerts":
            await self._silence(matchers=[{"name": "UUID", "value": "GPU-a"}], starts_at=None, ends_at=in_an_hour())
            await self._running.alerts.tick("GPU-a")
        if "dead-letters" in path:
            values["topic"] = await self._letters()
        if operation == "browseMessages":
            values["topic"] = dead_letter_topic_of(await self._letters())
        if operation in ("deleteTopic", "deleteGroup"):
            values["topic"] = await self._letters()
            values["group"] = f"{values['topic']}-readers"
        if operation == "createTopic":
            await self._client.delete(f"{API}/queue/topics/{bodies(OPERATIONS[operation][2])[0]['name']}")
        return {name: values[name] for name in wanted}

    async def _letters(self) -> str:
        """A topic with eight dead letters."""
        topic = f"letters-{uuid4().hex[:8]}"
        async with grpc.aio.insecure_channel(self._running.pipe.queue) as channel:
            record = encode_json(Record(datetime.now(UTC), "GPU-a", {"temperature": 63.0}, {"host": "node-1"}))
            message = queue_pb2.Message(data=record, attributes={CONTENT_TYPE: JSON_CONTENT_TYPE})
            await Client(channel).bury(topic, *[message] * 8, group=f"{topic}-readers")
        return topic

    async def _task(self) -> str:
        topic = await self._letters()
        answer = await self._client.post(f"{API}/queue/topics/{topic}/dead-letters:discard", json={"all": True})
        return str(answer.json()["id"])

    async def _silence(self, **other: Any) -> str:
        (body,) = bodies(OPERATIONS["createSilence"][2])
        return str((await self._client.post(f"{API}/alerts/silences", json=body | other)).json()["id"])


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def request_of(case: Case, names: dict[str, str], accept: str) -> dict[str, Any]:
    """What httpx sends."""
    method, path, operation = OPERATIONS[case.name]
    query = {each["name"]: "temperature" for each in operation.get("parameters", ()) if each["required"]}
    query = {name: value for name, value in query.items() if name not in names} | (
        {case.parameter: case.value} if case.parameter else {}
    )
    request = {"method": method, "url": path.format(**names), "params": query, "headers": {"Accept": accept}}
    return request | ({} if case.body is None else {"json": case.body})


def success(operation: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The status of success, and by media type what is answered with it."""
    (status,) = (each for each in operation["responses"] if each.startswith("2"))
    return int(status), operation["responses"][status].get("content", {})


def hollow(example: Any, real: Any, path: str = "") -> Iterator[str]:
    """Where a real answer has nothing although the example shows what would be in it, so that a schema says little."""
    if isinstance(example, list | dict) and example and not real:
        yield path
    elif isinstance(example, dict):
        for name in example.keys() & real.keys():
            yield from hollow(example[name], real[name], f"{path}/{name}")
    elif isinstance(example, list) and example:
        yield from hollow(example[0], real[0], f"{path}/0")


def events_of(text: str) -> list[dict[str, str]]:
    """The events of an event stream that have data."""
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        for block in text.split("\n\n")
    ]
    return [block for block in blocks if "data" in block]


async def leave(client: httpx.AsyncClient, request: dict[str, Any]) -> None:
    """Ask for an event stream and go, as it has no end."""
    async with client.stream(**request) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def check_text(kind: str, text: str) -> None:
    """That a text is of its kind."""
    if kind == "text/csv":
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        assert all(len(row) == len(header) for row in rows)
    elif kind == "text/plain":
        assert [each.name for each in text_string_to_metric_families(text) if each.samples]
    else:
        assert kind == "text/event-stream"
        for event in events_of(text):
            assert event["id"].isdecimal()
            data = json.loads(event["data"])
            if event["event"] == "gap":
                assert list(data) == ["missed"]
            else:
                strict(named(EVENTS[event["event"]])).validate(data)


@pytest.mark.parametrize("name", OPERATIONS)
async def test_every_body_has_an_example_of_its_own_schema(name: str) -> None:
    _, _, operation = OPERATIONS[name]
    contents = [
        (kind, each) for answer in operation["responses"].values() for kind, each in answer.get("content", {}).items()
    ]
    for kind, content in contents:
        if kind.endswith("json"):
            strict(content["schema"]).validate(content["example"])
        else:
            check_text(kind, content["example"])
    examples = bodies(operation)
    assert ("requestBody" in operation) == bool(examples)
    for example in examples:
        schema = operation["requestBody"]["content"][JSON]["schema"]
        # Members that may be left out are, so the schema holds as it is.
        whole = schema | {"components": DOCUMENT["components"]}
        jsonschema_rs.Draft202012Validator(whole, validate_formats=True).validate(example)


@pytest.mark.parametrize("case", [*cases()], ids=str)
async def test_what_is_shown_is_accepted_and_answered_as_shown(
    case: Case, running: Running, client: httpx.AsyncClient
) -> None:
    status, contents = success(OPERATIONS[case.name][2])
    for kind, content in (contents or {"": {}}).items():
        request = request_of(case, await Stage(running, client).names(case.name), kind)
        if kind == "text/event-stream":
            await leave(client, request)
            continue
        answer = await client.request(**request)
        assert answer.status_code == status, answer.text
        assert answer.headers.get("content-type", "").partition(";")[0] == kind
        if kind == JSON:
            strict(content["schema"]).validate(answer.json())
            if not case.parameter:
                assert [*hollow(content["example"], answer.json())] == []
        elif kind:
            check_text(kind, answer.text)


def wrong(schema: dict[str, Any]) -> Iterator[Any]:
    """What a schema does not allow as a value."""
    if schema.get("type") in ("integer", "boolean") or "enum" in schema:
        yield "maybe"
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maxLength" in schema:
        yield "x" * (schema["maxLength"] + 1)
    if schema.get("minLength") or schema.get("examples"):
        yield ""
    if schema.get("examples"):
        yield "yesterday"  # no time, and no length of time
    if "maxItems" in schema:
        yield ["x"] * (schema["maxItems"] + 1)
        yield from ([each] for each in wrong(resolved(schema["items"])))
    for each in schema.get("anyOf", ()):
        yield from wrong(resolved(each))


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name] if name else schema
    return found


WRONG_TO_US: Final = {"Last-Event-ID": "x", "from": "somewhere", "page_token": "mine"}
"""Strings that say nothing, which is more than their schemas know."""


@pytest.mark.parametrize("name", [name for name, (_, _, each) in OPERATIONS.items() if each.get("parameters")])
async def test_each_parameter_that_is_wrong_is_named(name: str, running: Running, client: httpx.AsyncClient) -> None:
    _, _, operation = OPERATIONS[name]
    names = await Stage(running, client).names(name)
    body = next(iter(bodies(operation)), None)
    for parameter in operation["parameters"]:
        where = parameter["name"].replace("last-event-id", "Last-Event-ID")
        values = [*wrong(resolved(parameter["schema"])), *filter(None, [WRONG_TO_US.get(where)])]
        assert values, where
        for value in values:
            if parameter["in"] == "path":
                request = request_of(Case(name, body), names | {where: value}, JSON)
            else:
                request = request_of(Case(name, body, where, value), names, JSON)
            if parameter["in"] == "header":
                request["headers"][where] = request["params"].pop(where)
            answer = await client.request(**request)
            assert (answer.status_code, answer.json().get("parameter")) == (400, where), (value, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            strict(named("Problem")).validate(answer.json())


async def test_events_come_as_shown(running: Running, client: httpx.AsyncClient) -> None:
    _, contents = success(OPERATIONS["streamUpdates"][2])
    shown = [each["event"] for each in events_of(contents["text/event-stream"]["example"])]
    assert set(shown) == {*EVENTS, "gap"}
    text = ""
    async with client.stream("GET", f"{API}/stream", headers={"Last-Event-ID": "1"}) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        await running.publish()
        await running.alerts.tick("GPU-a", true={"Hot": {}, "Slow": {}})
        async for piece in answer.aiter_text():
            text += piece
            if {each["event"] for each in events_of(text)} >= set(shown):
                break
    check_text("text/event-stream", text)
