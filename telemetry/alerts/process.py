"""The alerts as a process: its data directory, its rules, and the signal to read them anew."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from telemetry.alerts.evaluate import Evaluator
from telemetry.alerts.rule_files import load_rules
from telemetry.alerts.server import AlertsServer, AlertsSettings
from telemetry.runtime.datadir import DataDirectoryLock
from telemetry.runtime.security import SecurityFlags

PACK: Final = Path(__file__).parent / "pack" / "gpu.rules.yaml"
"""The rules in force when nobody names others."""


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What the process needs beside the server's own settings.

    Attributes:
        data_dir: where the state is kept.
        rules: rule files; none means the pack.
        security: what guards the ports.
    """

    data_dir: Path
    rules: Sequence[Path]
    security: SecurityFlags


async def run_alerts(server: AlertsSettings, process: ProcessSettings, stop: asyncio.Event) -> None:
    """Run until ``stop`` is set; on SIGHUP, read the rules anew.

    Raises:
        StartupError: if it cannot start.
    """
    security = process.security.load(server.host)
    files = process.rules or (PACK,)
    with DataDirectoryLock(process.data_dir):
        alerts = AlertsServer(server, process.data_dir, lambda: Evaluator(load_rules(files)), security)
        reloads: set[asyncio.Task[None]] = set()

        def reload() -> None:
            task = asyncio.ensure_future(alerts.reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, reload)
        try:
            await alerts.run(stop)
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
