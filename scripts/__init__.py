"""What the Makefile runs: the demo and the generator of the reference pages."""
