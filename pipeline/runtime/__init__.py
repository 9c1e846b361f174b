"""Runtimes: what drives the pure machines. Embedded on SQLite, distributed on Kafka; the same stages in both."""
