"""Redis Streams with `appendfsync always`: the stream's entries and what the group has acked, as Debian ships it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.queue.load import ROWS_A_BATCH, Load, Outcome, batch_of_rows, due_times, rows_in, stamped_row
from benchmarks.queue.programs import HOST, MissingError, Program, Server, free_port

if TYPE_CHECKING:
    from redis import Redis

STREAM: Final = "bench"
GROUP: Final = "bench"
MEMBER: Final = "one"
FIELD: Final = b"d"
READ_MAX: Final = 500
"""Entries that the consumer asks for at a time."""
IN_FLIGHT: Final = 4
"""Pipelines of `ROWS_A_BATCH` rows sent and not answered; more brings nothing."""
PACKED_IN_FLIGHT: Final = 16
"""Messages of `ROWS_A_BATCH` rows sent and not answered."""

NAME: Final = "Redis Streams"
PROMISE: Final = "XADD and XACK are answered after fsync of the append-only file"


def start(folder: Path) -> Server:
    """Start a server with its files in ``folder``, which rewrites none of them in between."""
    if importlib.util.find_spec("redis") is None:
        raise MissingError("the Python package redis is not installed (make dev)")
    program = shutil.which("redis-server")
    if program is None:
        raise MissingError("there is no redis-server (Debian: apt-get install redis-server)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    port = free_port()
    options: dict[str, object] = {
        "bind": HOST, "port": port, "dir": folder, "save": "", "appendonly": "yes", "appendfsync": "always",
        "auto-aof-rewrite-percentage": 0,
    }  # fmt: skip
    arguments = (part for name, value in options.items() for part in (f"--{name}", value))
    process = Program.start(folder, "redis", program, *arguments)
    return Server(NAME, version.partition("v=")[2].partition(" ")[0], f"{HOST}:{port}", process)


def publish(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    """Send all rows."""
    client = _connect(address, load)
    outcome = Outcome()
    ready()
    outcome.begin()
    if load.per_second:
        _send_when_due(client, load)
    else:
        _send_batches(client, load)
    outcome.rows = load.rows
    outcome.end()
    return outcome


def consume(address: str, load: Load, ready: Callable[[], None]) -> Outcome:
    """Receive and ack all rows. Acks travel with the next request, so that neither waits for the other."""
    client = _connect(address, load)
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    outcome = Outcome()
    ready()
    ids: list[bytes] = []
    while outcome.rows < load.rows:
        pipeline = client.pipeline(transaction=False)
        if ids:
            pipeline.xack(STREAM, GROUP, *ids)
        pipeline.xreadgroup(GROUP, MEMBER, {STREAM: ">"}, count=READ_MAX, block=60_000)
        ((_, entries),) = pipeline.execute()[-1]
        ids = [entry for entry, _ in entries]
        for _, fields in entries:
            if load.per_second:
                outcome.received(fields[FIELD])
                outcome.rows += 1
            else:
                outcome.rows += rows_in(fields[FIELD], load)
    client.xack(STREAM, GROUP, *ids)
    outcome.end()
    return outcome


def _connect(address: str, load: Load) -> Redis:
    if not load.boosted:
        sys.modules["hiredis"] = None  # type: ignore[assignment]  # as if its faster parser were not installed
    import redis

    host, _, port = address.rpartition(":")
    return redis.Redis(host=host, port=int(port))


def _send_batches(client: Redis, load: Load) -> None:
    """Pipelines one after another on one connection, several of them before the first answer is awaited."""
    rows = batch_of_rows()
    connection: Any = client.connection_pool.get_connection()  # what is below the client has no types
    answers = 1 if load.packed else ROWS_A_BATCH
    in_flight = 0
    for batch in range(load.batches):
        messages = [b"".join(rows)] if load.packed else rows
        commands = [("XADD", STREAM, "*", FIELD, message) for message in messages]
        connection.send_packed_command(connection.pack_commands(commands))
        in_flight += 1
        last = batch == load.batches - 1
        while in_flight and (last or in_flight >= (PACKED_IN_FLIGHT if load.packed else IN_FLIGHT)):
            for _ in range(answers):
                connection.read_response()
            in_flight -= 1


def _send_when_due(client: Redis, load: Load) -> None:
    """Each row goes out the moment it is due, whether those before are answered or not."""
    connection: Any = client.connection_pool.get_connection()  # what is below the client has no types

    def read_answers() -> None:
        for _ in range(load.rows):
            connection.read_response()

    reader = threading.Thread(target=read_answers)
    reader.start()
    for due_ns in due_times(load):
        connection.send_packed_command(connection.pack_command("XADD", STREAM, "*", FIELD, stamped_row(due_ns)))
    reader.join()
