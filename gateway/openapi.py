"""The OpenAPI document: what every operation has in common."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from gateway.alerts.schemas import AlertNews
from gateway.schemas import LiveUpdate, Problem
from telemetry import __version__

API: Final = "/api/v1"
"""Where the API begins."""
TITLE: Final = "GPU telemetry"
DESCRIPTION: Final = (
    "The GPUs of a fleet, their metrics over time and as they change, alerts about them, and the queue below."
)

_PROBLEMS: Final[dict[HTTPStatus, dict[str, Any]]] = {
    HTTPStatus.BAD_REQUEST: {
        "detail": "page_size: input should be greater than or equal to 0",
        "parameter": "page_size",
        "errors": [{"parameter": "page_size", "detail": "input should be greater than or equal to 0"}],
    },
    HTTPStatus.FORBIDDEN: {"detail": "this needs the role operate; start the gateway with --admin to allow it"},
    HTTPStatus.NOT_FOUND: {"detail": "there is no GPU 'GPU-0000'", "parameter": "gpu"},
    HTTPStatus.CONFLICT: {
        "detail": "'GPU-5' could be any of 2 GPUs; say more of its identity",
        "parameter": "gpu",
        "candidates": ["GPU-5fd4f087", "GPU-5b8ae3c1"],
    },
    HTTPStatus.TOO_MANY_REQUESTS: {"detail": "8 tasks are running already; wait for one to end, or cancel one"},
    HTTPStatus.SERVICE_UNAVAILABLE: {
        "detail": "the collector at 127.0.0.1:9092 cannot be reached",
        "service": "collector",
        "code": "UNAVAILABLE",
        "retry_after_s": 2.0,
    },
    HTTPStatus.GATEWAY_TIMEOUT: {
        "detail": "the collector at 127.0.0.1:9092 did not answer in time",
        "service": "collector",
        "code": "DEADLINE_EXCEEDED",
    },
    HTTPStatus.INTERNAL_SERVER_ERROR: {"detail": "an unexpected error; the log of the process says more"},
}
_MEANING: Final = {
    HTTPStatus.BAD_REQUEST: "A parameter is wrong.",
    HTTPStatus.NOT_FOUND: "What the path names does not exist.",
    HTTPStatus.FORBIDDEN: "Whoever asks may not.",
    HTTPStatus.CONFLICT: "The name is ambiguous, or what is there stands in the way.",
    HTTPStatus.TOO_MANY_REQUESTS: "There is too much already.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The service that knows the answer cannot be reached; see `Retry-After`.",
    HTTPStatus.GATEWAY_TIMEOUT: "The service that knows the answer did not give it in time.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Any other error.",
}
UPSTREAM: Final = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
"""How operations fail that need another service."""


def responses(
    example: Any, *problems: int, media_type: str = "application/json", status: int = 200, csv: str = ""
) -> dict[int | str, dict[str, Any]]:
    """What an operation answers: an example of success (``None`` has no body), and the problems it may end with.

    ``csv`` is an example of the same as CSV, where clients may ask for that.
    """
    success: dict[str, Any] = {} if example is None else {"content": {media_type: {"example": example}}}
    if csv:
        success["content"]["text/csv"] = {"schema": {"type": "string"}, "example": csv}
    documented: dict[int | str, dict[str, Any]] = {status: success}
    documented |= {int(status): _problem(HTTPStatus(status)) for status in problems}
    return documented | {"default": _problem(HTTPStatus.INTERNAL_SERVER_ERROR)}


def _problem(status: HTTPStatus) -> dict[str, Any]:
    example = {"type": "about:blank", "title": status.phrase, "status": int(status), **_PROBLEMS[status]}
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": _MEANING[status],
        "content": {"application/problem+json": {"schema": schema, "example": example}},
    }


def operation_id(route: APIRoute) -> str:
    """``list_gpus`` becomes ``listGpus``."""
    first, *rest = route.name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application, made once."""
    if app.openapi_schema is None:
        content = get_openapi(title=TITLE, version=__version__, description=DESCRIPTION, routes=app.routes)
        schemas = content.setdefault("components", {}).setdefault("schemas", {})
        for model in (Problem, LiveUpdate, AlertNews):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs")
            schemas[model.__name__] = schema
        content["components"]["schemas"] = dict(sorted(schemas.items()))
        _restore_examples(app, content)
        app.openapi_schema = content
    return app.openapi_schema


def _restore_examples(app: FastAPI, content: dict[str, Any]) -> None:
    """Put the examples back as they were given: FastAPI leaves out members that are null."""
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            continue
        for method in route.methods or ():
            answers = content["paths"][route.path_format][method.lower()]["responses"]
            for status, answer in route.responses.items():
                for kind, body in answer.get("content", {}).items():
                    answers[str(status if status == "default" else int(status))]["content"][kind].update(body)
