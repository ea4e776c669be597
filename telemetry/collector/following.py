"""What there is to say of deliveries that are stored, for whoever follows them; nothing is looked at for nobody."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from telemetry.collector.intake import Delivery
from telemetry.runtime.trace import TRACEPARENT, is_tracing, span, trace_id

log = logging.getLogger(__name__)


@contextmanager
def storing(deliveries: Sequence[Delivery]) -> Iterator[None]:
    """Commit deliveries as part of the traces that their messages belong to, and log it when that is done."""
    telling = log.isEnabledFor(logging.DEBUG)
    if not telling and not is_tracing():
        yield
        return
    contexts = [_contexts(delivery) for delivery in deliveries]
    parents = list(dict.fromkeys(context for each in contexts for context in each))
    messages = sum(len(delivery.messages) for delivery in deliveries)
    with span("store", parents, deliveries=len(deliveries), messages=messages) if is_tracing() else nullcontext():
        yield
    if not telling:
        return
    for delivery, found in zip(deliveries, contexts, strict=True):
        for context, offset in found.items():
            place = {"topic": delivery.topic, "partition": delivery.partition, "offset": offset}
            log.debug("stored", extra={"trace_id": trace_id(context), **place})


def _contexts(delivery: Delivery) -> dict[str, int]:
    """The contexts that messages came with, each with its first offset."""
    found: dict[str, int] = {}
    for offset, message in zip(delivery.offsets, delivery.messages, strict=True):
        context = message.attributes.get(TRACEPARENT, "")
        if context not in found and trace_id(context):
            found[context] = offset
    return found
