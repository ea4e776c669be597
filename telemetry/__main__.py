"""`python -m telemetry` is the command `telemetry`."""

from telemetry.cli.main import telemetry

telemetry(prog_name="telemetry")
