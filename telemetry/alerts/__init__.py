"""Alerts: rules in Prometheus' format over the live stream, their state, and who is told."""
