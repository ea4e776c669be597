"""`telemetry up`: the four processes on one machine, started, watched and stopped together."""
