"""What administers the queue as documented in `/openapi.json`: bodies of requests, and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.schemas import Group, GroupPosition, GroupStats

UINT32_MAX = (1 << 32) - 1
UINT64_MAX = (1 << 64) - 1

Uint32 = Annotated[int, Field(ge=0, le=UINT32_MAX)]
Uint64 = Annotated[int, Field(ge=0, le=UINT64_MAX)]
TopicName = Annotated[str, Field(min_length=1, max_length=200)]


class Origin(BaseModel):
    """Where a dead letter came from, and why it died; null where it does not say."""

    topic: str | None
    partition: int | None
    offset: int | None
    group: str | None
    attempts: int | None
    reason: str | None
    first_time: str | None
    last_time: str | None


class StoredMessage(BaseModel):
    """A message where it lies."""

    partition: int
    offset: int
    publish_time: datetime
    ordering_key: str
    attributes: dict[str, str]
    bytes: Annotated[int, Field(description="The size of its data.")]
    content_type: Annotated[str, Field(description="The attribute `content-type`; empty when it has none.")]
    kind: Annotated[
        Literal["records", "json", "text", "binary"],
        Field(description="What the data is: records of GPUs, other JSON, other text, or anything else."),
    ]
    rows: Annotated[list[dict[str, Any]], Field(description="The first 100 records or JSON objects.")]
    rows_total: Annotated[int, Field(description="How many it holds.")]
    text: Annotated[str | None, Field(description="The text of JSON and text.")]
    base64: Annotated[str | None, Field(description="The data when it is none of these.")]
    truncated: Annotated[bool, Field(description="Whether `text` or `base64` is only the beginning.")]
    problem: Annotated[str, Field(description="Why the data is not what its content type says; else empty.")]


class DeadLetter(StoredMessage):
    """A message that a group has given up."""

    origin: Origin


class MessagePage(BaseModel):
    """Messages of a topic."""

    topic: str
    messages: list[StoredMessage]
    next: Annotated[dict[str, int], Field(description="Where to go on, by partition; as `from`: `0:120,3:7`.")]


class DeadLetterPage(BaseModel):
    """Dead letters of a topic."""

    topic: Annotated[str, Field(description="The dead-letter topic.")]
    total: Annotated[int, Field(description="How many it holds.")]
    messages: list[DeadLetter]
    next: Annotated[dict[str, int], Field(description="Where to go on, by partition.")]


class Body(BaseModel):
    """A request's body: every field is known, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RetentionBody(Body):
    """When messages may be dropped. What is left out stays as it is."""

    age_s: Annotated[float | None, Field(gt=0, le=3.2e9, description="null means that age is no reason.")] = None
    bytes: Annotated[Uint64, Field(description="0 means that size is no reason.")] = 0
    drop_unacked: bool = False
    drop_acked: bool = False


class LimitsBody(Body):
    """What a topic refuses. 0 means the queue's default; what is left out stays as it is."""

    message_bytes: Uint64 = 0
    batch_bytes: Uint64 = 0
    batch_messages: Uint32 = 0
    partition_bytes: Uint64 = 0


class NewTopic(Body):
    """A topic to be made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "jobs", "partitions": 4, "retention": {"age_s": 604800.0}}]}
    )

    name: Annotated[TopicName, Field(description="Parts of `a-z0-9_-` with dots between them.")]
    partitions: Annotated[int, Field(ge=0, le=1024, description="0 means 1. Fixed once it is made.")] = 0
    storage: Annotated[
        Literal["", "disk", "memory"], Field(description="Empty means what the queue does by default. Fixed.")
    ] = ""
    retention: RetentionBody = RetentionBody()
    limits: LimitsBody = LimitsBody()


class TopicChange(Body):
    """What to change of a topic; fields left out stay as they are."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"retention": {"age_s": 86400.0}, "limits": {"message_bytes": 1048576}}]}
    )

    retention: RetentionBody = RetentionBody()
    limits: LimitsBody = LimitsBody()


class Purge(Body):
    """Which messages to drop; without fields, all."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"partition": 0, "before_offset": 1200}]})

    partition: Uint32 | None = None
    before_offset: Annotated[Uint64 | None, Field(description="Only messages below this offset.")] = None


class Purged(BaseModel):
    """What was dropped."""

    messages: int


class GroupDetail(Group):
    """A group and what is counted of it."""

    stats: GroupStats | None


class Seek(Body):
    """Where a group goes on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"position": "2025-07-18T20:42:34Z", "topic": "telemetry", "partition": 0, "dry_run": True}]
        }
    )

    position: Annotated[
        str,
        Field(
            min_length=1,
            max_length=100,
            description="`earliest`, `latest`, an offset such as `120`, or an RFC 3339 time.",
        ),
    ]
    topic: Annotated[str, Field(max_length=200, description="Only this topic; empty means all.")] = ""
    partition: Annotated[Uint32 | None, Field(description="Only this partition, which needs `topic`.")] = None
    dry_run: Annotated[bool, Field(description="Only say what would happen.")] = False
    force: Annotated[bool, Field(description="Disconnect members that are there.")] = False


class SoughtPosition(GroupPosition):
    """Where a group stands in a partition after a seek."""

    acked_through_before: int | None
    again: Annotated[int, Field(description="Messages that will be delivered again.")]
    skipped: Annotated[int, Field(description="Messages that will not be delivered.")]


class Sought(BaseModel):
    """What a seek moved, or would move."""

    group: str
    dry_run: bool
    positions: list[SoughtPosition]


class Letters(Body):
    """Which dead letters: `all`, or some of one partition."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"all": True}, {"offsets": [7], "partition": 0}]})

    all: Annotated[bool, Field(description="All that are there now.")] = False
    offsets: Annotated[list[Uint64], Field(max_length=10_000, description="Only these.")] = []
    partition: Annotated[
        Uint32 | None, Field(description="Only this partition; with `offsets`, needed when there are several.")
    ] = None

    @model_validator(mode="after")
    def _says_which(self) -> Letters:
        if self.all == bool(self.offsets):
            raise ValueError("say either all: true or offsets")
        return self


class ReplayLetters(Letters):
    """Which dead letters to replay, and how fast."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"all": True, "rate": 50}]})

    rate: Annotated[int, Field(ge=0, le=1_000_000, description="Messages a second at most; 0 means 100.")] = 0


class Task(BaseModel):
    """Work that goes on after the request."""

    id: str
    kind: Literal["replay", "discard"]
    topic: Annotated[str, Field(description="The dead-letter topic.")]
    state: Literal["running", "done", "failed", "cancelled"]
    done: Annotated[int, Field(description="Dead letters done.")]
    total: Annotated[int, Field(description="Dead letters to do; 0 until the queue has said it.")]
    started_at: datetime
    finished_at: datetime | None
    error: Annotated[str, Field(description="Why it failed; else empty.")]


class TaskList(BaseModel):
    """Tasks, newest first."""

    tasks: list[Task]


class AuditEntry(BaseModel):
    """One change that somebody asked for."""

    id: str
    time: datetime
    peer: Annotated[str, Field(description="The address from which it was asked for.")]
    who: Annotated[str, Field(description="The name of the token that was shown; empty without tokens.")]
    request_id: str
    action: str
    target: Annotated[str, Field(description="The topic or group.")]
    parameters: dict[str, Any]
    outcome: Annotated[
        Literal["begun", "done", "refused", "failed", "cancelled", "unknown"],
        Field(description="`unknown`: the queue went away before it answered, or the gateway ended."),
    ]
    detail: str
    finished_at: datetime | None


class AuditPage(BaseModel):
    """Changes, newest first."""

    entries: list[AuditEntry]
