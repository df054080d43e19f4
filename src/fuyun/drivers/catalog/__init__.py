"""Functions and tenants, durably: `sqlite.py`, with its tables and migrations."""
