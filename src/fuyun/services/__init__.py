"""Use cases: async, own their tasks, call decide and ports; never a driver."""
