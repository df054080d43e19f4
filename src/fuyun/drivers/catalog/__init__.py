"""Functions, layers and tenants, durably: SQL over `drivers.sql`."""
