"""Buses, durably: SQL over `drivers.sql`."""
