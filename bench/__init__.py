"""Measures every budget of the design against a reference taken in the same run. `make bench` prints the table."""
