"""`/docs`: the OpenAPI document as a page that needs no script and nothing from other servers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

import orjson

STYLE: Final = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; font-size: 1.1rem } h2 code { font-size: 1.05em }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884 }
pre { overflow: auto; max-height: 24rem; padding: .75rem; border: 1px solid #8884; border-radius: .25rem }
nav a { display: block } details { margin: .5rem 0 } .more { opacity: .7 }
"""


def render_docs(document: Mapping[str, Any]) -> str:
    """The page for an OpenAPI document."""
    info = document["info"]
    operations = [
        (path, method, operation) for path, item in document["paths"].items() for method, operation in item.items()
    ]
    contents = "".join(
        f'<a href="#{operation["operationId"]}"><code>{escape(path)}</code> {escape(operation["summary"])}</a>'
        for path, _, operation in operations
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1><p>{escape(info['description'])} "
        f'The same for programs: <a href="/openapi.json">openapi.json</a>.</p><nav>{contents}</nav>'
        + "".join(part for each in operations for part in _operation(*each, document["components"]["schemas"]))
        + "</body></html>"
    )


def _operation(
    path: str, method: str, operation: Mapping[str, Any], schemas: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    name = operation["operationId"]
    yield f'<h2 id="{name}"><code>{method.upper()} {escape(path)}</code></h2><p>{_text(operation["summary"])}</p>'
    if text := operation.get("description"):
        yield f"<p>{_text(text)}</p>"
    if method == "get" and "{" not in path and not any(each["required"] for each in operation.get("parameters", ())):
        yield f'<p><a href="{escape(path)}">Try it</a></p>'
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>Parameter</th><th>Where</th><th>Meaning</th></tr>"
        for each in parameters:
            needed = " (required)" if each["required"] else ""
            yield f"<tr><td><code>{escape(each['name'])}</code>{needed}</td><td>{each['in']}</td>"
            yield f"<td>{_text(each.get('description', ''))}{_values(each['schema'])}</td></tr>"
        yield "</table>"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield "<details><summary>The body</summary>"
        for example in schemas[content["schema"]["$ref"].rpartition("/")[2]]["examples"]:
            yield _example(kind, example)
        yield "</details>"
    for status, response in operation["responses"].items():
        opened = " open" if status == "200" else ""
        yield f"<details{opened}><summary>{status}: {_text(response['description'])}</summary>"
        for kind, content in response.get("content", {}).items():
            yield _example(kind, content["example"])
        yield "</details>"


def _example(kind: str, example: Any) -> str:
    text = example if isinstance(example, str) else orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()
    return f'<span class="more">{escape(kind)}</span><pre>{escape(text)}</pre>'


def _text(text: str) -> str:
    """Text as HTML, with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _values(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    if default in (None, "", []):
        return ""
    return f' <span class="more">Default <code>{escape(str(default))}</code>.</span>'
