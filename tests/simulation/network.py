"""Connections between clients and the broker: in order within one, at any pace, and cut at any time."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.simulation.loop import Process, SimulatedLoop


class Network:
    """Makes links and decides how long what is sent on them takes."""

    def __init__(self, loop: SimulatedLoop, rng: random.Random, delay_s: float) -> None:
        self.loop = loop
        self.rng = rng
        self.calm = False
        self._delay_s = delay_s
        self._links: list[Link] = []

    def delay(self) -> float:
        """How long the next message takes."""
        if self.calm:
            return 0.001
        usual = self.rng.random() * self._delay_s
        return usual if self.rng.random() < 0.97 else usual + self.rng.random()

    def connect(self, broker: Process, on_lost: Callable[[], None]) -> Link:
        """A connection to the process; ``on_lost`` is called when the client notices its end."""
        link = Link(self, broker, on_lost)
        self._links = [one for one in self._links if not one.closed]
        self._links.append(link)
        return link

    def open_links(self) -> list[Link]:
        """Links that the client believes in."""
        return [link for link in self._links if not link.closed]

    def broker_died(self, broker: Process) -> None:
        """All its connections break."""
        for link in self._links:
            if link.broker is broker and not link.closed:
                self.loop.after(self.delay(), link.lose)


class Link:
    """One connection. Each side learns of its end at another time."""

    def __init__(self, network: Network, broker: Process, on_lost: Callable[[], None]) -> None:
        self.broker = broker
        self.closed = False
        self.on_server_close: list[Callable[[], object]] = []
        self._network = network
        self._on_lost = on_lost
        self._server_closed = False
        self._last_to_server = self._last_to_client = 0.0

    def to_server(self, callback: Callable[..., object], *args: object) -> None:
        """Call back in the broker's process after a while, unless the connection ends before."""
        if not self.closed:
            self._last_to_server = max(self._last_to_server, self._arrival())
            self._network.loop.schedule(self.broker, self._last_to_server, self._at_server, callback, args)

    def to_client(self, callback: Callable[..., object], *args: object) -> None:
        """The same in the other direction."""
        if not self._server_closed:
            self._last_to_client = max(self._last_to_client, self._arrival())
            self._network.loop.at(self._last_to_client, self._at_client, callback, args)

    def cut(self) -> None:
        """End it. What the client has sent may still arrive, and the server may take long to notice."""
        if self.closed:
            return
        loop = self._network.loop
        if self._network.rng.random() < 0.5:
            self._server_closed = True
        loop.schedule(self.broker, max(self._last_to_server, self._arrival()), self._close_server)
        self.lose()

    def leave(self) -> None:
        """The client ends it after all it has sent."""
        if not self.closed:
            self._network.loop.schedule(self.broker, max(self._last_to_server, self._arrival()), self._close_server)
            self.closed = True

    def end_from_server(self) -> None:
        """The server ends it after all it has sent."""
        self._last_to_client = max(self._last_to_client, self._arrival())
        self._network.loop.at(self._last_to_client, self.lose)
        self._server_closed = True

    def lose(self) -> None:
        """The client notices the end."""
        if not self.closed:
            self.closed = True
            self._on_lost()

    def _arrival(self) -> float:
        return self._network.loop.time() + self._network.delay()

    def _at_server(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        if not self._server_closed:
            callback(*args)

    def _at_client(self, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        if not self.closed:
            callback(*args)

    def _close_server(self) -> None:
        self._server_closed = True
        for callback in self.on_server_close:
            callback()
