"""Programs that the warden starts: in a root of their own, whatever descriptors it has open."""

from __future__ import annotations

import json

import pytest

from fuyun.drivers.instances import plans
from fuyun.runtime.descriptors import ASIDE
from tests.runtime import confined

START = """
    from fuyun.runtime import launching
    plan, free = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    namespaces(syscalls.NEWNS)
    reader, writer = os.pipe()
    while os.open("/dev/null", os.O_RDONLY) < 160:
        pass
    for number in free:
        os.close(number)
    message = {"plan": plan, "op": "run", "env": {"PATH": "/usr/bin:/bin"}, "cwd": "/"}
    argv = ["/bin/sh", "-c", "echo started; echo and heard >&2; ls /proc/self/fd | wc -l"]
    pid = launching.launch(message, argv, {1: writer, 2: writer}, (0, 1))
    os.close(writer)
    found["status"] = wait(pid)
    with open(reader) as output:
        found["output"] = output.read().split()
"""


@pytest.mark.parametrize("free", [(60, 61), *((60, ASIDE + n) for n in range(5))])
def test_no_descriptor_of_the_wardens_is_in_the_way(free: tuple[int, int]) -> None:
    """Of the two ends of the socket over which the child tells that its root is built, one gets the number given."""
    found = confined.run(START, json.dumps(plans.view(None)), json.dumps(free))
    assert found["status"] == 0
    assert found["output"][:3] == ["started", "and", "heard"]
    assert int(found["output"][3]) <= 4, "descriptors of the warden's are open in the program"
