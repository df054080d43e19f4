"""What the HTTP transports share: problem documents and the one table of statuses."""
