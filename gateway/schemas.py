"""The answers as documented in `/openapi.json`. Routes build them as plain dictionaries of this shape."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

Values = list[float | None]
Columns = dict[str, Values]


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: Annotated[str, Field(description="What is wrong with this very request.")]
    parameter: Annotated[str | None, Field(description="The parameter that is wrong.")] = None
    errors: Annotated[list[ParameterProblem] | None, Field(description="All parameters that are wrong.")] = None
    candidates: Annotated[list[str] | None, Field(description="Some of what an ambiguous name could mean.")] = None
    service: Annotated[str | None, Field(description="The service behind the gateway that failed.")] = None
    code: Annotated[str | None, Field(description="The gRPC status that it answered with.")] = None
    retry_after_s: Annotated[float | None, Field(description="When to try again.")] = None
    request_id: Annotated[str | None, Field(description="What the request is called in logs.")] = None


class ParameterProblem(BaseModel):
    """One parameter that is wrong."""

    parameter: str
    detail: str


class Completeness(BaseModel):
    """Whether an answer holds all there is."""

    partial: bool
    warnings: list[str]


class Gpu(BaseModel):
    """One GPU."""

    gpu: Annotated[str, Field(description="The identity: UUID, `host/index`, or the bare id of the source.")]
    host: str
    index: str
    model: str
    labels: dict[str, str]
    first_seen: datetime | None
    last_seen: datetime | None
    metrics: list[str]


class GpuPage(BaseModel):
    """A page of GPUs, by identity."""

    gpus: list[Gpu]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]
    total: Annotated[int, Field(description="How many there are on all pages.")]
    completeness: Completeness


class GpuLatest(Gpu):
    """One GPU and its newest values."""

    latest: dict[str, float]
    latest_time: datetime | None
    completeness: Completeness


class Record(BaseModel):
    """One GPU at one instant."""

    timestamp: datetime
    metrics: dict[str, float | None]


class Records(BaseModel):
    """Records of one GPU."""

    gpu: str
    records: list[Record]
    completeness: Completeness


class Series(BaseModel):
    """Metrics of one GPU in steps."""

    gpu: str
    step_s: float
    timestamps: Annotated[list[float], Field(description="The beginning of each step, seconds since 1970.")]
    columns: Annotated[Columns, Field(description="A value a step, null where there are no samples.")]
    completeness: Completeness


class Host(BaseModel):
    """A machine with GPUs."""

    host: str
    gpus: int
    first_seen: datetime | None
    last_seen: datetime | None


class HostPage(BaseModel):
    """A page of hosts, by name."""

    hosts: list[Host]
    next_page_token: str
    completeness: Completeness


class Fleet(BaseModel):
    """The newest values of all GPUs: one entry a GPU in each array."""

    time: Annotated[float, Field(description="The gateway's clock, seconds since 1970.")]
    gpus: list[str]
    hosts: list[str]
    indexes: list[str]
    models: list[str]
    timestamps: Annotated[list[float], Field(description="Each GPU's newest record, seconds since 1970.")]
    columns: Columns
    completeness: Completeness


class LiveColumn(BaseModel):
    """One metric over the last second: a value a GPU."""

    last: Values
    min: Values
    max: Values


class LiveUpdate(BaseModel):
    """Data of the event `update`."""

    gpus: list[str]
    timestamps: list[float]
    columns: dict[str, LiveColumn]
    labels: Annotated[dict[str, dict[str, str]], Field(description="Labels that are new or have changed, by GPU.")]


class Partition(BaseModel):
    """One partition of a topic."""

    topic: str
    partition: int


class PartitionStats(BaseModel):
    """What is counted of a partition."""

    partition: int
    start_offset: int
    end_offset: int
    bytes: int


class TopicStats(BaseModel):
    """What is counted of a topic."""

    topic: str
    messages: int
    bytes: int
    published: int
    duplicates: int
    publish_rate: float
    partitions: list[PartitionStats]


class MemberStats(BaseModel):
    """What is counted of a member of a group."""

    member: str
    session_id: str
    peer: str
    permits_messages: int
    permits_bytes: int
    unacked: int
    partitions: list[Partition]
    join_time: datetime | None


class GroupStats(BaseModel):
    """What is counted of a group."""

    group: str
    mode: str
    ready: int
    unacked: int
    dead_lettered: int
    oldest_unacked_age_s: float | None
    lag_messages: int
    lag_age_s: float | None
    delivered: int
    acked: int
    redelivered: int
    deliver_rate: float
    ack_rate: float
    blocked_on_max_unacked: bool
    members: list[MemberStats]


class LogStats(BaseModel):
    """The queue's log on disk."""

    bytes: int
    segments: int
    fsyncs: int
    fsync_p50_s: float | None
    fsync_p99_s: float | None
    quarantined_records: int
    torn_bytes: int


class QueueStats(BaseModel):
    """All that the queue counts."""

    version: str
    start_time: datetime | None
    engine: str
    connections: int
    topics: list[TopicStats]
    groups: list[GroupStats]
    log: LogStats | None


class Retention(BaseModel):
    """When a topic's messages may be dropped."""

    age_s: float | None
    bytes: int
    drop_unacked: bool
    drop_acked: bool


class TopicLimits(BaseModel):
    """What a topic refuses."""

    message_bytes: int
    batch_bytes: int
    batch_messages: int
    partition_bytes: int


class Topic(BaseModel):
    """A topic of the queue."""

    name: str
    partitions: int
    storage: str
    create_time: datetime | None
    retention: Retention
    limits: TopicLimits


class TopicDetail(Topic):
    """A topic and what is counted of it."""

    stats: TopicStats | None


class TopicPage(BaseModel):
    """A page of topics, by name."""

    topics: list[Topic]
    next_page_token: str


class GroupPosition(BaseModel):
    """Where a group stands in a partition."""

    topic: str
    partition: int
    acked_through: int
    end_offset: int


class Group(BaseModel):
    """A subscription group."""

    name: str
    topics: list[str]
    mode: str
    ack_wait_s: float | None
    max_deliver: int
    backoff_s: list[float]
    dead_letter_topic: str
    max_unacked: int
    positions: list[GroupPosition]


class GroupPage(BaseModel):
    """A page of groups, by name."""

    groups: list[Group]
    next_page_token: str


class Metric(BaseModel):
    """A metric of the catalogue."""

    name: str
    unit: str
    description: str
    dcgm: Annotated[str, Field(description="The DCGM field; empty when there is none.")]


class MetricList(BaseModel):
    """The catalogue of metrics."""

    metrics: list[Metric]


class Service(BaseModel):
    """How one service is."""

    name: str
    state: Literal["ok", "down", "unknown"]
    latency_ms: float | None
    version: str
    since: datetime | None
    detail: str


class Health(BaseModel):
    """How the pipeline is."""

    status: Literal["ok", "degraded", "down"]
    services: list[Service]


class Liveness(BaseModel):
    """That the gateway lives."""

    status: Literal["ok"]
    version: str


class Session(BaseModel):
    """Who asks."""

    tokens: Annotated[bool, Field(description="Whether tokens are needed here.")]
    name: Annotated[str, Field(description="What the token is called; empty without one.")]
    role: Literal["none", "view", "operate", "admin"]
