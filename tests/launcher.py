"""The program of `launching.Launcher`: has Fuyun imported, and forks a process for each request.

It is given to an interpreter as text, because the account that runs it may not read the tests. Requests come on the
socket at descriptor argv[1]: JSON {module, argv, env, cwd, session} with the three standard descriptors. The answer is
the pid.
"""

import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys


def prepare() -> None:
    """Import what a platform and the command line do. None of it may start a thread or keep a descriptor."""
    import fuyun.cli

    for module in pkgutil.iter_modules(fuyun.cli.__path__):
        if not module.ispkg:
            importlib.import_module(f"fuyun.cli.{module.name}")
    for name in ("fuyun.wiring", "fuyun.cli.main", "alembic.command", "alembic.runtime.migration", "mako.template"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def serve(requests: socket.socket) -> str:
    """Fork until the other side hangs up. Returns in a forked process only: the module that it was asked to run."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not data:
            os._exit(0)
        asked = json.loads(data)
        reader, writer = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()  # with its parent gone it is the tests' own child: they adopt orphans
            if pid:
                os.write(writer, str(pid).encode())
                os._exit(0)
            requests.close()
            os.close(reader)
            os.close(writer)
            become(asked, descriptors)
            return str(asked["module"])
        os.close(writer)
        for descriptor in descriptors:
            os.close(descriptor)
        os.waitpid(between, 0)
        pid_text = os.read(reader, 32)
        os.close(reader)
        requests.send(pid_text)


def become(asked: dict, descriptors: list[int]) -> None:
    """As if an interpreter had been started for it."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    if asked["session"]:
        os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv = [asked["module"], *asked["argv"]]
    sys.path.insert(0, asked["cwd"])
    from fuyun.base import faults

    importlib.reload(faults)  # it reads the environment once


prepare()
module = serve(socket.socket(fileno=int(sys.argv[1])))
if module:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
else:
    from fuyun.cli.main import main

    sys.exit(main())
