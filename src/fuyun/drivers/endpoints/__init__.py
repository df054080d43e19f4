"""Drivers of `ports.endpoints`: endpoints of others as rows, and HTTP to them."""
