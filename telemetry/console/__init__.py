"""What the operator's commands on the queue are made of; the commands themselves are in ``telemetry/cli``."""
