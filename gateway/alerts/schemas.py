"""Alerts, rules and silences as documented in `/openapi.json`: bodies of requests, and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gateway.parameters import parse_rfc3339
from gateway.queue.schemas import Body

State = Literal["pending", "firing", "resolved"]
Labels = dict[str, str]


class Alert(BaseModel):
    """One instance of a rule: one combination of labels for which the rule's expression is true."""

    id: Annotated[str, Field(description="Stays the same for the same rule and labels.")]
    rule: Annotated[str, Field(description="The rule's name.")]
    group: Annotated[str, Field(description="The rule's group.")]
    state: State
    severity: Annotated[str, Field(description="The label `severity`; empty when there is none.")]
    gpu: Annotated[str, Field(description="The GPU's identity; empty when it is about no GPU or about many.")]
    host: Annotated[str, Field(description="The host's name; empty when it is about no host or about many.")]
    labels: Labels
    annotations: Annotated[Labels, Field(description="`summary`, `description`, `runbook_url` and others.")]
    value: Annotated[float | None, Field(description="What the expression gave when it was last true.")]
    active_since: datetime
    firing_since: Annotated[datetime | None, Field(description="null while it is pending.")]
    resolved_at: datetime | None
    silenced_by: Annotated[list[str], Field(description="The silences that keep its notifications back.")]


class AlertPage(BaseModel):
    """A page of alerts: firing ones first, then pending ones, then resolved ones, by name."""

    alerts: list[Alert]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]
    total: Annotated[int, Field(description="How many there are on all pages.")]


class AlertNews(BaseModel):
    """Data of the event `alerts`."""

    alerts: Annotated[list[Alert], Field(description="Those that are new or have changed.")]
    firing: Annotated[int, Field(description="How many fire now.")]
    pending: Annotated[int, Field(description="How many are pending now.")]


class Rule(BaseModel):
    """One rule."""

    id: str
    type: Literal["alerting", "recording"]
    name: Annotated[str, Field(description="The alert's, or the recorded series'.")]
    expr: str
    for_s: float
    keep_firing_for_s: float
    labels: Annotated[Labels, Field(description="Templates as written.")]
    annotations: Annotated[Labels, Field(description="Templates as written.")]
    line: Annotated[int, Field(description="Where it begins in its file.")]
    state: Literal["inactive", "pending", "firing"]
    health: Literal["ok", "err"]
    last_error: Annotated[str, Field(description="Why the last evaluation failed; else empty.")]
    last_evaluation: datetime | None
    evaluation_s: float | None
    active: Annotated[int, Field(description="Alerts of it that are pending or firing.")]


class RuleGroup(BaseModel):
    """Rules that are evaluated together."""

    name: str
    file: str
    interval_s: float
    rules: list[Rule]


class Rules(BaseModel):
    """All rules in force, in the order of their files."""

    groups: list[RuleGroup]
    loaded_at: datetime | None
    error: Annotated[str, Field(description="Why the newest files were refused: file, line, reason. Else empty.")]


class Matcher(Body):
    """Chooses alerts by one label; one that an alert lacks has the empty value."""

    name: Annotated[str, Field(max_length=200, pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
    value: Annotated[str, Field(max_length=256)]
    op: Annotated[
        Literal["=", "!=", "=~", "!~"], Field(description="Equal, not equal, or whether the whole value matches.")
    ] = "="


BodyInstant = Annotated[
    int,
    BeforeValidator(parse_rfc3339),
    WithJsonSchema({"type": "string", "examples": ["2025-07-18T20:42:34Z"], "description": "RFC 3339."}),
]
"""Microseconds since 1970."""

NEW_SILENCE_EXAMPLE: Final[dict[str, Any]] = {
    "matchers": [{"name": "Hostname", "value": "node-1", "op": "="}],
    "starts_at": "2099-07-18T20:42:00Z",
    "ends_at": "2099-07-19T08:00:00Z",
    "author": "kim",
    "comment": "new fans, PO-4411",
}
"""It is far away so that it is accepted as it stands: a silence has to end after now."""


class NewSilence(Body):
    """A silence to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [NEW_SILENCE_EXAMPLE]})

    matchers: Annotated[
        list[Matcher],
        Field(min_length=1, max_length=20, description="An alert must match all; one must not match the empty value."),
    ]
    starts_at: Annotated[BodyInstant | None, Field(description="From then on; null means now.")] = None
    ends_at: Annotated[BodyInstant, Field(description="Until then, at most 366 days after it begins.")]
    author: Annotated[str, Field(min_length=1, max_length=50, description="Who makes it.")]
    comment: Annotated[str, Field(min_length=1, max_length=500, description="Why.")]


class Silence(BaseModel):
    """Keeps notifications of alerts back for a while."""

    id: str
    matchers: list[Matcher]
    starts_at: datetime
    ends_at: datetime
    author: str
    comment: str
    state: Literal["active", "pending", "expired"]
    created_at: datetime
    matching: Annotated[int, Field(description="Pending or firing alerts that it keeps back now.")]


class SilencePage(BaseModel):
    """A page of silences, those that end last first."""

    silences: list[Silence]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]


class AlertEvent(BaseModel):
    """Something that an alert did."""

    id: str
    alert_id: str
    rule: str
    gpu: str
    host: str
    labels: Labels
    annotations: Annotated[Labels, Field(description="As they were.")]
    state: Annotated[Literal["firing", "resolved"], Field(description="What it went into.")]
    at: datetime
    value: float | None
    silenced: Annotated[bool, Field(description="Whether a silence kept the notification back.")]


class AlertEventPage(BaseModel):
    """A page of the history, newest first."""

    events: list[AlertEvent]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]
