"""Fuyun: a serverless platform people own."""

__version__ = "0.1.0"
