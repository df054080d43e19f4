"""Nouns: frozen structs, their rules, the error tree. No I/O, no clock, no asyncio."""
