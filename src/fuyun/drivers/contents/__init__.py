"""Bytes of objects by their digest: drivers of `ports.contents`."""
