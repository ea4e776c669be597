"""`telemetry doctor`: what is wrong with this machine or with a running pipeline, and how to mend it."""
