"""Delivery ids: issued once each, opaque to the outside, and telling a lease that was lost from one that never was."""

from __future__ import annotations

from typing import Final

from telemetry.queue.core.delivery import Piece

ENDED_MAX: Final = 16_384
"""How many ended leases are remembered, so that an ack sent again is answered as it was the first time."""


class Leases:
    """The pieces that members have, by delivery id."""

    __slots__ = ("_ended", "_issued", "_live", "_nonce")

    def __init__(self, nonce: str) -> None:
        """Begin with none. ``nonce`` must differ from that of every start before, or its ids would pass for ours."""
        self._nonce = nonce
        self._issued = 0
        self._live: dict[str, Piece] = {}
        self._ended: dict[str, Piece] = {}

    def issue(self, piece: Piece) -> str:
        """Give the piece a delivery id that no piece has had."""
        self._issued += 1
        piece.delivery_id = f"{self._nonce}-{self._issued:x}"
        self._live[piece.delivery_id] = piece
        return piece.delivery_id

    def end(self, piece: Piece, *, remember: bool = False) -> None:
        """Void the piece's delivery id; ``remember`` it when what became of it is an answer to an ack."""
        if self._live.pop(piece.delivery_id, None) is not None and remember:
            self._ended[piece.delivery_id] = piece
            if len(self._ended) > ENDED_MAX:
                del self._ended[next(iter(self._ended))]

    def live(self, delivery_id: str) -> Piece | None:
        """The piece that is leased under this id."""
        return self._live.get(delivery_id)

    def ended(self, delivery_id: str) -> Piece | None:
        """The piece whose lease under this id was settled lately."""
        return self._ended.get(delivery_id)

    def was_issued(self, delivery_id: str) -> bool:
        """Whether this id was ever given out by this queue, since it started."""
        nonce, _, number = delivery_id.rpartition("-")
        if nonce != self._nonce:
            return False
        try:
            return 0 < int(number, 16) <= self._issued
        except ValueError:
            return False
