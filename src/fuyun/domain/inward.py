"""The address inside an instance at which the platform answers (docs/contracts/address.md)."""

from __future__ import annotations

from typing import Final

#: Its port, on the instance's own loopback. Below the range the kernel gives to connections (32768 and up), beside the
#: Lambda Runtime API's 9001.
ADDRESS_PORT: Final = 9002
ENDPOINT: Final = f"http://127.0.0.1:{ADDRESS_PORT}"
#: How deep functions may call each other. A request from outside has depth 0, a call of the function it runs depth 1.
MOST_DEPTH: Final = 16
#: The field that tells a function its own depth. What a function sends in it is replaced.
DEPTH_FIELD: Final = "fuyun-depth"
