"""Drivers of `ports.brokers`: one module per technology, loaded when the first trigger of its kind is there."""
