"""`telemetry up`: the five processes on one machine, started, watched and stopped together."""
