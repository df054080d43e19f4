"""One suite per port; every driver of the port runs it by subclassing."""
