"""What runs triggers: one module per kind, over the bindings that functions declare."""
