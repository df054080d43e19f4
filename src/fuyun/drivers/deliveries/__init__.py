"""Deliveries, the outbox's reading end and the states of triggers, durably: SQL over `drivers.sql`."""
