"""Python client of the API and the gateway; the CLI reaches the platform through this only."""
