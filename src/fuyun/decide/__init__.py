"""Pure verbs: (state, event, now) -> (state, commands). No clock, no I/O, no asyncio, no logging, no randomness."""
