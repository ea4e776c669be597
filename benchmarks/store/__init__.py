"""The store from file to answer, and next to Prometheus, VictoriaMetrics and SQLite with the same samples."""
