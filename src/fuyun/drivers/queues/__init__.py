"""Drivers of `ports.queues` and `ports.topics`: what is published to a topic enters queues in the same transaction."""
