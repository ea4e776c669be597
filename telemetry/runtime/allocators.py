"""What allocators do with memory that has been freed."""

from __future__ import annotations

import os
from typing import Final

_POLARS: Final = "background_thread:true,dirty_decay_ms:250,muzzy_decay_ms:0"
"""Polars brings jemalloc, which keeps freed memory for 10 s and then only lets the system take it (`MADV_FREE`, so it
still counts as the process' own). While a collector works through a backlog that is 100 MB. A quarter of a second is
longer than the steps of a commit are apart, so that it costs no time; giving everything back at once (0) would cost a
collector half of its speed. The thread gives back what is left when nothing is allocated any more."""


def give_back_soon() -> None:
    """Let freed memory go back to the system soon, unless the environment says what to do.

    Has an effect only before polars is imported; processes that are started from here do the same.
    """
    os.environ.setdefault("_RJEM_MALLOC_CONF", _POLARS)
