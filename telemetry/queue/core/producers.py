"""What a partition remembers of its producers, so that a batch sent twice is stored once."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from telemetry.queue.core.errors import PreconditionError

BATCHES_REMEMBERED: Final = 64
"""How many of a producer's last batches a partition knows the offsets of."""
SILENCE_US_MAX: Final = 7 * 24 * 3600 * 1_000_000
"""A producer that has been silent for this long is forgotten."""
PRODUCERS_MAX: Final = 10_000
"""Most producers a partition remembers; beyond it, the one silent for the longest is forgotten."""


class SentBatch(NamedTuple):
    """A batch that a producer has had stored."""

    first_sequence: int
    messages: int
    base_offset: int


class SentBatches:
    """A producer's last batches, as many as are remembered: the numbers of each, one after the other in one array."""

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers = array("Q")

    def extend(self, numbers: Iterable[int]) -> None:
        """Add newer batches; the oldest go."""
        self.numbers.extend(numbers)
        del self.numbers[: -BATCHES_REMEMBERED * _NUMBERS]

    def drop_last(self) -> None:
        """Forget the newest batch, if there is one."""
        del self.numbers[-_NUMBERS:]

    def clear(self) -> None:
        """Forget all batches."""
        del self.numbers[:]

    def offset_of(self, sequence: int) -> int | None:
        """The offset that a sequence was given, if that is remembered."""
        for at in range(len(self.numbers) - _NUMBERS, -1, -_NUMBERS):
            sent = SentBatch(*self.numbers[at : at + _NUMBERS])
            if sent.first_sequence <= sequence < sent.first_sequence + sent.messages:
                return sent.base_offset + sequence - sent.first_sequence
        return None

    def __len__(self) -> int:
        return len(self.numbers) // _NUMBERS


@dataclass(slots=True)
class ProducerState:
    """How far one producer has come in one partition."""

    epoch: int
    last_sequence: int
    last_time_us: int
    recent: SentBatches = field(default_factory=SentBatches)


_NUMBERS: Final = len(SentBatch._fields)


class Duplicate(NamedTuple):
    """The verdict on a batch that is stored already. ``base_offset`` is ``None`` when that was too long ago."""

    base_offset: int | None


class Undo(NamedTuple):
    """What a producer's state was before a batch that may yet have to be withdrawn."""

    producer_id: str
    epoch: int
    last_sequence: int


class Producers:
    """The producers of one partition, the one silent for the longest first."""

    __slots__ = ("_states",)

    def __init__(self) -> None:
        self._states: OrderedDict[str, ProducerState] = OrderedDict()

    def check(self, producer_id: str, epoch: int, first_sequence: int, count: int) -> Duplicate | None:
        """Whether a batch may be stored (``None``) or is there already.

        Raises:
            PreconditionError: if the epoch is older than the newest seen, or sequences would be left out or split.
        """
        state = self._states.get(producer_id)
        if state is None or epoch > state.epoch:
            return None
        if epoch < state.epoch:
            raise PreconditionError(
                f"producer {producer_id!r} is fenced: epoch {epoch} is older than {state.epoch}", field="producer_epoch"
            )
        if first_sequence == state.last_sequence + 1:
            return None
        if first_sequence > state.last_sequence:
            raise PreconditionError(
                f"producer {producer_id!r} left a gap: sequence {first_sequence} follows {state.last_sequence}",
                field="first_sequence",
            )
        if first_sequence + count - 1 > state.last_sequence:
            raise PreconditionError(
                f"producer {producer_id!r} sent sequences {first_sequence} to {first_sequence + count - 1}, of which "
                f"those up to {state.last_sequence} are stored and the rest are not; resend batches as they were",
                field="first_sequence",
            )
        return Duplicate(state.recent.offset_of(first_sequence))

    def store(
        self, producer_id: str, epoch: int, first_sequence: int, count: int, base_offset: int, time_us: int
    ) -> Undo | None:
        """Remember a batch. Returns how to take that back; ``None`` when the producer was not known."""
        state = self._states.get(producer_id)
        undo = Undo(producer_id, state.epoch, state.last_sequence) if state is not None else None
        if state is None:
            state = self._states[producer_id] = ProducerState(epoch, 0, time_us)
            if len(self._states) > PRODUCERS_MAX:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(producer_id)
        if epoch != state.epoch:
            state.recent.clear()
        state.epoch, state.last_sequence, state.last_time_us = epoch, first_sequence + count - 1, time_us
        state.recent.extend(SentBatch(first_sequence, count, base_offset))
        return undo

    def withdraw(self, producer_id: str, undo: Undo | None) -> None:
        """Take back the producer's newest batch."""
        state = self._states.get(producer_id)
        if state is None:
            return
        if undo is None:
            del self._states[producer_id]
            return
        state.epoch, state.last_sequence = undo.epoch, undo.last_sequence
        state.recent.drop_last()

    def restore(
        self, producer_id: str, epoch: int, last_sequence: int, time_us: int, sent: SentBatch | None = None
    ) -> None:
        """Take in how far a producer had come, or one of its batches, unless more is known already."""
        state = self._states.get(producer_id)
        if state is None or epoch > state.epoch:
            self._states.pop(producer_id, None)
            state = self._states[producer_id] = ProducerState(epoch, last_sequence, time_us)
            if len(self._states) > PRODUCERS_MAX:
                self._states.popitem(last=False)
        elif epoch < state.epoch:
            return
        elif last_sequence > state.last_sequence:
            state.last_sequence, state.last_time_us = last_sequence, time_us
            self._states.move_to_end(producer_id)
        if sent is not None:
            state.recent.extend(sent)

    def restore_state(self, producer_id: str, known: ProducerState) -> None:
        """Take in how far a producer had come and its last batches, unless more is known already."""
        self.restore(producer_id, known.epoch, known.last_sequence, known.last_time_us)
        state = self._states[producer_id]
        if state.epoch == known.epoch:
            state.recent.extend(known.recent.numbers)

    def forget_silent(self, now_us: int) -> None:
        """Forget the producers that have been silent for longer than ``SILENCE_US_MAX``."""
        while self._states:
            producer_id, state = next(iter(self._states.items()))
            if now_us - state.last_time_us <= SILENCE_US_MAX:
                break
            del self._states[producer_id]

    def get(self, producer_id: str) -> ProducerState | None:
        """How far a producer has come, if it is known."""
        return self._states.get(producer_id)

    def __iter__(self) -> Iterator[tuple[str, ProducerState]]:
        return iter(self._states.items())
