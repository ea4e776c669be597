"""The OpenAPI document says everything that a client's author needs, and says it truly."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway import schemas

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUCCESS = {"application/json", "text/event-stream", "text/plain"}
PATHS = {
    *("fleet", "stream", "gpus", "gpus/{gpu}", "gpus/{gpu}/telemetry", "gpus/{gpu}/series", "hosts", "metrics"),
    *("alerts", "alerts/rules", "alerts/silences", "alerts/silences/{silence}", "alerts/history"),
    *("queue/topics/{topic}:purge", "queue/topics/{topic}/messages", "queue/topics/{topic}/dead-letters"),
    *("queue/topics/{topic}/dead-letters:replay", "queue/topics/{topic}/dead-letters:discard"),
    *("queue/groups/{group}", "queue/groups/{group}:seek", "queue/tasks", "queue/tasks/{task}", "queue/audit"),
    *("hosts/{host}/gpus", "queue/stats", "queue/topics", "queue/topics/{topic}", "queue/groups", "health", "session"),
}
"""All of `/api/v1`."""


@pytest_asyncio.fixture(loop_scope="module")
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/openapi.json")
    content: dict[str, Any] = answer.json()
    return content


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, item in document["paths"].items() for operation in item.values()]


def successes(operation: dict[str, Any]) -> list[str]:
    return [status for status in operation["responses"] if status.startswith("2")]


async def test_every_route_is_documented(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {f"/api/v1/{path}" for path in PATHS} | {
        "/health",
        "/health/ready",
        "/metrics",
        "/metrics/gpus",
    }


async def test_every_operation_has_a_name_an_example_and_its_problems(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, operation in operations(document):
        assert operation["operationId"].isidentifier(), path
        assert operation["summary"], path
        assert operation["description"], path
        (status,) = successes(operation)
        if status != "204":
            (kind, success), *others = operation["responses"][status]["content"].items()
            assert [other for other, _ in others] in ([], ["text/csv"]), path
            assert kind in SUCCESS, path
            assert success["example"], path
        assert "422" not in operation["responses"], path
        problems = {code: each for code, each in operation["responses"].items() if code != status}
        assert "default" in problems, path
        assert "400" in problems or not operation.get("parameters"), path
        for code, response in problems.items():
            content = response["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, path
            schemas.Problem.model_validate(content["example"], extra="forbid")
            assert code == "default" or content["example"]["status"] == int(code)


async def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], f"{path}: {parameter['name']}"


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [each for value in node.values() for each in references(value)]
        return [each for value in node for each in references(value)] if isinstance(node, list) else []

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
    assert {"Problem", "LiveUpdate", "AlertNews"} <= document["components"]["schemas"].keys()


async def test_the_documentation_page_shows_every_operation_without_scripts(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    page = (await client.get("/docs")).text
    for path, operation in operations(document):
        assert f'id="{operation["operationId"]}"' in page
        assert path in page
    assert "new fans, PO-4411" in page
    assert "<script" not in page
    assert "://" not in page
