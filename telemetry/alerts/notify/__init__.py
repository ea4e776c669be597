"""Telling others what fires: Alertmanagers, webhooks, the log."""
