"""What Fuyun needs from the world, as Protocols. A docstring here is a contract; `testing/contracts` tests it."""
