"""Drivers of `ports.tables`: documents, their indexes, and the feed of their changes, in one transaction."""
