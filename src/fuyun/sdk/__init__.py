"""What function authors import. Standard library only; Python 3.9 and newer."""

from fuyun.sdk import buses, objects, queues, streams, tables, topics
from fuyun.sdk.applications import asgi, wsgi
from fuyun.sdk.calling import CallError, CallFailed, CallRefused, CallUnavailable, LoopDetected, call, credential
from fuyun.sdk.now import current_context
from fuyun.sdk.snapshots import after_restore, before_snapshot

__all__ = [
    "CallError",
    "CallFailed",
    "CallRefused",
    "CallUnavailable",
    "LoopDetected",
    "after_restore",
    "asgi",
    "before_snapshot",
    "buses",
    "call",
    "credential",
    "current_context",
    "objects",
    "queues",
    "streams",
    "tables",
    "topics",
    "wsgi",
]
