"""What the REST API takes: ``python -m benchmarks.api``."""
