"""Pure verbs: (state, event, now) -> (state, commands). No clock, no I/O, no asyncio, no logging, no randomness.

instance: the life of one instance. scaling: how many there should be. starts: from which rung. routing: which version
serves a request. quotas: who may use how much. billing: what it costs.
"""
