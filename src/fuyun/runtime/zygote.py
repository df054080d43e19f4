"""A zygote: a single-threaded interpreter that has imported what most functions share and forks sandboxed blanks.

It lives in the minimal root (`sandbox.build_root`), holds no user code and knows two messages from the warden:
`spawn` with [channel, output, control] makes a blank, end of file ends it. A blank is a child of the warden
(CLONE_PARENT), so that it outlives its zygote and the warden learns how it ended.
"""

from __future__ import annotations

import gc
import os
import socket

from fuyun.runtime import descriptors, instance, sandbox, syscalls


def preload():
    # type: () -> None
    """Import what functions commonly use, once, in memory all instances share."""
    import asyncio, base64, collections, concurrent.futures, contextlib, copy, csv, dataclasses, datetime, decimal, email.message  # noqa: E401, F401
    import enum, functools, hashlib, hmac, http.client, http.cookies, inspect, io, itertools, json, logging, math  # noqa: E401, F401
    import pathlib, pickle, queue, random, re, secrets, shutil, ssl, statistics, string, struct, subprocess, tempfile  # noqa: E401, F401
    import textwrap, threading, time, traceback, types, typing, urllib.parse, urllib.request, uuid, zlib  # noqa: E401, F401

    from fuyun.runtime import worker  # noqa: F401


def _spawn(message, passed, control, options):
    # type: (dict, list[int], socket.socket, dict) -> None
    isolated = options["isolation"] == "sandbox"
    gate, opener = os.pipe()
    flags = syscalls.CLONE_PARENT | (syscalls.INSTANCE_NAMESPACES if isolated else 0)
    pid = syscalls.clone(flags)
    if pid == 0:
        status = 70
        try:
            control.close()
            os.close(opener)
            mapped = os.read(gate, 1)
            os.close(gate)
            if mapped:
                status = instance.live(*passed, isolated=isolated)
        finally:
            os._exit(status)
    try:
        if isolated:
            outside = 1000 + message["slot"] % 60000 if options["wide"] else 0
            sandbox.write_maps(pid, sandbox.INSTANCE_UID, (outside, outside))
        os.write(opener, b"m")
    finally:
        os.close(gate)
        os.close(opener)


def main(control_fd, options):
    # type: (int, dict) -> int
    """Serve the warden until it closes the socket. `options`: `isolation` (sandbox or process), `wide` (65,536 host ids
    are mapped, so that each instance can have its own)."""
    control = socket.socket(fileno=control_fd)
    preload()
    gc.collect()
    gc.freeze()
    descriptors.send(control, {"ev": "zygote"})
    while True:
        message, passed = descriptors.receive(control)
        if message is None:
            return 0
        try:
            _spawn(message, passed, control, options)
        except OSError as error:
            descriptors.send(control, {"ev": "failed", "id": message["id"], "message": str(error)})
        finally:
            for descriptor in passed:
                os.close(descriptor)
