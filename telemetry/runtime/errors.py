"""Errors that end a process with one clear sentence instead of a traceback.

StartupError
├── DataDirectoryError    the data directory is missing, not writable, or in use
└── PortInUseError        another process listens there
"""

from __future__ import annotations


class StartupError(Exception):
    """The process cannot start. The text names the thing that is wrong and, where it can, the remedy."""

    exit_code = 1


class DataDirectoryError(StartupError):
    """The data directory cannot be used."""


class PortInUseError(StartupError):
    """Nothing can be bound to the address."""

    def __init__(self, address: str, flag: str) -> None:
        super().__init__(
            f"{address} is already in use; stop the process that listens there or choose another with {flag}"
        )
        self.address = address
