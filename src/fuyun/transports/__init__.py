"""Thin: bytes -> service -> bytes. Siblings never import each other; `web` is what they share."""
