"""The client of the queue, as other rooms import it."""

from telemetry.queue.clients.admin import DeadLetterProgress, QueueAdmin, StoredMessage
from telemetry.queue.clients.backoff import Backoff
from telemetry.queue.clients.batches import DoneCallback, OutgoingMessage
from telemetry.queue.clients.blocking import BlockingPublisher
from telemetry.queue.clients.errors import (
    AccessDeniedError,
    ClientClosedError,
    DeliveryTimeoutError,
    InvalidRequestError,
    PreconditionFailedError,
    ProducerFencedError,
    QueueClientError,
    QueueFullError,
    QueueNotFoundError,
    QueueUnavailableError,
    RefusedError,
    SequenceGapError,
)
from telemetry.queue.clients.events import (
    Event,
    MissedMessages,
    PartitionsAssigned,
    PartitionsRevoked,
    ReceivedDelivery,
)
from telemetry.queue.clients.placement import partition_of_key
from telemetry.queue.clients.publisher import Publisher
from telemetry.queue.clients.subscriber import Subscriber
from telemetry.queue.clients.topics import ProducerPosition, topic_of
from telemetry.queue.core.types import AckStatus, AtOffset, AtTime, Place, Position, Receipt, TopicPartition
from telemetry.runtime.credentials import Credentials

__all__ = [
    "AccessDeniedError",
    "AckStatus",
    "AtOffset",
    "AtTime",
    "Backoff",
    "BlockingPublisher",
    "ClientClosedError",
    "Credentials",
    "DeadLetterProgress",
    "DeliveryTimeoutError",
    "DoneCallback",
    "Event",
    "InvalidRequestError",
    "MissedMessages",
    "OutgoingMessage",
    "PartitionsAssigned",
    "PartitionsRevoked",
    "Place",
    "Position",
    "PreconditionFailedError",
    "ProducerFencedError",
    "ProducerPosition",
    "Publisher",
    "QueueAdmin",
    "QueueClientError",
    "QueueFullError",
    "QueueNotFoundError",
    "QueueUnavailableError",
    "Receipt",
    "ReceivedDelivery",
    "RefusedError",
    "SequenceGapError",
    "StoredMessage",
    "Subscriber",
    "TopicPartition",
    "partition_of_key",
    "topic_of",
]
