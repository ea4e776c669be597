"""The pipeline's face: REST, server-sent events, Prometheus metrics and the dashboard, all from one application."""
