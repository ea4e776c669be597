"""The tables of `checkpoint.sqlite` and how older versions of them become this one."""

from __future__ import annotations

import sqlite3
from typing import Final

FORMAT: Final = 2
"""Version of the tables, in ``PRAGMA user_version``."""

# The first version made its tables one by one, so a crash may have left some of them.
_GPUS_AND_POSITIONS: Final = """
CREATE TABLE IF NOT EXISTS gpus (
    id INTEGER PRIMARY KEY, gpu TEXT NOT NULL UNIQUE, file TEXT NOT NULL UNIQUE, length INTEGER NOT NULL,
    block_start INTEGER NOT NULL, block_min_us INTEGER NOT NULL, block_max_us INTEGER NOT NULL,
    first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, records INTEGER NOT NULL,
    labels TEXT NOT NULL, latest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    id INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    min_us INTEGER NOT NULL, max_us INTEGER NOT NULL,
    PRIMARY KEY (id, start)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, topic_created_us INTEGER NOT NULL, next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (only INTEGER PRIMARY KEY CHECK (only = 0), length INTEGER NOT NULL);
INSERT OR IGNORE INTO quarantine VALUES (0, 0);
"""

_SEGMENTS_AND_COLD_FILES: Final = """
ALTER TABLE gpus ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gpus ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gpus ADD COLUMN opened_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE quarantine ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;
CREATE TABLE segments (
    id INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (id, start)) WITHOUT ROWID;
CREATE TABLE cold_files (
    id INTEGER PRIMARY KEY, adopted_us INTEGER NOT NULL, file TEXT NOT NULL);
CREATE TABLE cold_numbers (only INTEGER PRIMARY KEY CHECK (only = 0), next INTEGER NOT NULL);
INSERT INTO cold_numbers VALUES (0, 1);
"""

_STEPS: Final = (_GPUS_AND_POSITIONS, _SEGMENTS_AND_COLD_FILES)
"""What makes each version of the one before."""


def migrate(connection: sqlite3.Connection) -> int:
    """Bring a database, maybe an empty one, to :data:`FORMAT`; returns the version it had.

    One transaction makes all of it: whoever dies in between has changed nothing.

    Raises:
        ValueError: another version, which this one does not know, wrote it.
        sqlite3.Error: it cannot be written.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if not 0 <= version <= FORMAT:
        raise ValueError(f"it has format {version}; this version reads up to {FORMAT}")
    if version < FORMAT:
        script = "".join(_STEPS[version:])
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {FORMAT}; COMMIT;")
    return version
