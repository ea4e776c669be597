"""Generated from protos/telemetry/v1 by `make protos`; never edited by hand."""
