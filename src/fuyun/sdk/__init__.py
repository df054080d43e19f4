"""What function authors import. Standard library only; Python 3.9 and newer."""

from fuyun.sdk.applications import asgi, wsgi
from fuyun.sdk.now import current_context
from fuyun.sdk.snapshots import after_restore, before_snapshot

__all__ = ["after_restore", "asgi", "before_snapshot", "current_context", "wsgi"]
