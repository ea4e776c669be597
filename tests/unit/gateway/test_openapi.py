"""The OpenAPI document says everything that a client's author needs, and says it truly."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import pytest_asyncio
from pydantic import BaseModel

from gateway import schemas

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUCCESS = {"application/json", "text/event-stream", "text/plain"}
PATHS = {
    *("fleet", "stream", "gpus", "gpus/{gpu}", "gpus/{gpu}/telemetry", "gpus/{gpu}/series", "hosts", "metrics"),
    *("hosts/{host}/gpus", "queue/stats", "queue/topics", "queue/topics/{topic}", "queue/groups", "health"),
}
"""All of `/api/v1`."""


@pytest_asyncio.fixture(loop_scope="module")
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/openapi.json")
    content: dict[str, Any] = answer.json()
    return content


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, item in document["paths"].items() for operation in item.values()]


async def test_every_route_is_documented(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {f"/api/v1/{path}" for path in PATHS} | {"/health", "/metrics"}


async def test_every_operation_has_a_name_an_example_and_its_problems(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, operation in operations(document):
        assert operation["operationId"].isidentifier(), path
        assert operation["summary"], path
        assert operation["description"], path
        (kind, success), *others = operation["responses"]["200"]["content"].items()
        assert not others, path
        assert kind in SUCCESS, path
        assert success["example"], path
        assert "422" not in operation["responses"], path
        problems = {status: each for status, each in operation["responses"].items() if status != "200"}
        assert "default" in problems, path
        assert "400" in problems or not operation.get("parameters"), path
        for status, response in problems.items():
            content = response["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}, path
            schemas.Problem.model_validate(content["example"], extra="forbid")
            assert status == "default" or content["example"]["status"] == int(status)


async def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], f"{path}: {parameter['name']}"


async def test_examples_have_the_shape_that_is_documented(document: dict[str, Any]) -> None:
    for _, operation in operations(document):
        content = operation["responses"]["200"]["content"].get("application/json")
        if content is not None:
            model: type[BaseModel] = getattr(schemas, content["schema"]["$ref"].rpartition("/")[2])
            model.model_validate(content["example"], extra="forbid")


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [each for value in node.values() for each in references(value)]
        return [each for value in node for each in references(value)] if isinstance(node, list) else []

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
    assert {"Problem", "LiveUpdate"} <= document["components"]["schemas"].keys()


async def test_the_documentation_page_shows_every_operation_without_scripts(
    client: httpx.AsyncClient, document: dict[str, Any]
) -> None:
    page = (await client.get("/docs")).text
    for path, operation in operations(document):
        assert f'id="{operation["operationId"]}"' in page
        assert path in page
    assert "<script" not in page
    assert "://" not in page
