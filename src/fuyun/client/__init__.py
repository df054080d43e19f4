"""Python client of the platform: configuration, HTTP, the `Platform` façade, and the project file.

It knows `domain` and `base` only: what it learns of a platform, it learns over HTTP.
"""
