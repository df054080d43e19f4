"""Drivers of `ports.streams`: records in partitions, and how far groups have read."""
