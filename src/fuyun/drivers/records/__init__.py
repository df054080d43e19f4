"""Invocation records and log lines: append-only segments per function."""
