"""Drivers of `ports.places.PlaceStore`."""
