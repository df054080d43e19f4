"""Buckets, objects and uploads in SQL: what there is of them. All but small bodies are `drivers.contents`'."""
