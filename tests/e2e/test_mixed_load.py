"""Twenty-three functions of seven runtimes at once while their instances are killed: right answers or typed errors,
nothing left over. FUYUN_MIXED_LOAD_S says for how many seconds at least each platform is hurt; without it, for two, and
only that of an account without rights, which can clean up less."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from fuyun.domain import errors
from tests import leaks
from tests.e2e.mixture import FUNCTIONS, Function
from tests.running import Account, Platform, own_account, running
from tests.waiting import wait_until

LOAD_S = float(os.environ.get("FUYUN_MIXED_LOAD_S", "2"))

pytestmark = [pytest.mark.e2e, pytest.mark.slow_lane, pytest.mark.timeout(240 + 4 * LOAD_S)]

#: Runtimes with a program of its own in the instance: that one can be killed alone.
WITH_PROGRAM = {"custom", "web", "nodejs", "java", "image"}
#: How the targets of descriptors of namespaces begin (namespaces(7)); sockets and pipes look alike.
NAMESPACES = ("mnt:", "net:", "pid:", "user:", "ipc:", "uts:", "cgroup:")


def actors() -> dict[str, str]:
    """Error code -> who must act."""
    found, todo = dict[str, str](), [errors.FuyunError]
    while todo:
        kind = todo.pop()
        found[kind.code] = kind.actor
        todo += kind.__subclasses__()
    return found


ACTORS = actors()


class Callers:
    """Threads that call one function in a closed loop until told to stop, and judge what it says."""

    def __init__(self, platform: Platform, function: Function) -> None:
        self.platform, self.function = platform, function
        self.right = 0
        self.right_at_s = 0.0
        self.wrong: list[str] = []
        self.errors: list[dict[str, Any]] = []  # as the caller saw them
        self.cut: list[str] = []  # ids of the requests whose answer had begun and did not end

    def call(self, http: httpx.Client, number: int) -> None:
        """One call. Its text holds `number`, so that an answer to any other is told."""
        content = self.function.text(number).encode()
        headers = {"content-type": "text/plain; charset=utf-8"}
        id_ = ""
        try:
            with http.stream("POST", self.platform.url(self.function.name), content=content, headers=headers) as answer:
                id_ = answer.headers["fuyun-request-id"]
                answer.read()
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            if id_ and (self.function.streams or self.function.spec.get("runtime") == "web"):
                self.cut.append(id_)
            else:
                self.wrong.append(f"{number}: {error!r}")
            return
        self.judge(number, answer)

    def judge(self, number: int, answer: httpx.Response) -> None:
        """Right, an error that says who must act, or wrong."""
        if answer.status_code == 200 and not self.function.must_raise(number):
            good = self.function.is_right(number, answer.content)
        else:
            problem = answer.json()
            good = self.function.must_raise(number) and problem["code"] == "function_raised"
            good = good and (f"asked to by call {number}" in problem["detail"] or "wasm" in self.function.name)
            if not good and explained(problem):
                self.errors.append(problem)
                return
        if good:
            self.right += 1
            self.right_at_s = time.monotonic()
        else:
            said = answer.text
            self.wrong.append(f"{number}: {answer.status_code} {dict(answer.headers)} {said[:300]!r}, {len(said)} long")


def explained(problem: dict[str, Any]) -> bool:
    """Whether the error says who must act on what was done here: us, whose instance was killed, or the author, whose
    program was ended by SIGKILL."""
    named = problem["hint"] and problem["request_id"] and problem["detail"]
    if problem["code"] == "function_exited":
        return bool(named and ACTORS["function_exited"] == "author" and problem.get("signal") == signal.SIGKILL)
    return bool(named and problem["code"] in ("instance_lost", "unavailable") and ACTORS[problem["code"]] == "platform")


@contextmanager
def load(platform: Platform) -> Iterator[list[Callers]]:
    """All functions under load for the time of the block, each of them served before it begins."""
    everyone = [Callers(platform, function) for function in FUNCTIONS]
    stopping = threading.Event()

    def loop(callers: Callers, first: int) -> None:
        headers = {"authorization": f"Bearer {platform.key}"}
        number = first
        with httpx.Client(headers=headers, trust_env=False, verify=False, timeout=60.0) as http:
            while not stopping.is_set():
                callers.call(http, number)
                number += 1

    with ThreadPoolExecutor(sum(function.callers for function in FUNCTIONS)) as pool:
        loops = [pool.submit(loop, one, part * 1_000_000) for one in everyone for part in range(one.function.callers)]
        try:
            wait_until(
                lambda: all(one.right for one in everyone) or any(one.done() for one in loops), "all to answer", 60
            )
            yield everyone
        finally:
            stopping.set()
        for one in loops:
            one.result(90)


def kill_something(instances: list[dict[str, Any]], function: Function, rng: random.Random) -> int:
    """SIGKILL to one of the function's instances or to the program in it; how many were hit (it may be over)."""
    own = [one["pid"] for one in instances if one["version"].startswith(f"default/{function.name}@")]
    if not own:
        return 0
    pid = rng.choice(own)
    if function.spec.get("runtime") in WITH_PROGRAM and rng.randrange(2):
        pid = next(iter(leaks.descendants(pid)), pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def kill_at_random(platform: Platform, everyone: list[Callers], rng: random.Random) -> Counter[str]:
    """Kills of any for LOAD_S, then of those that were not hit three times yet, until all have served since; how often
    each was hit."""
    killed = Counter[str]()
    pause, began_s = threading.Event(), time.monotonic()
    while True:
        spared = [one for one in everyone if killed[one.function.name] < 3]
        among = everyone if time.monotonic() - began_s < LOAD_S else spared
        if not among:
            break
        instances = platform.instances()
        for callers in rng.sample(among, rng.randint(1, min(8, len(among)))):
            killed[callers.function.name] += kill_something(instances, callers.function, rng)
            pause.wait(rng.uniform(0.0, 0.05))
    moment_s = time.monotonic()
    wait_until(lambda: all(one.right_at_s > moment_s for one in everyone), "all to serve after the last kill", 30)
    return killed


def held(platform: Platform) -> dict[str, set[str]]:
    """What a function could leave behind while its platform runs: processes and control groups that the platform does
    not list, mounts, namespaces kept by a descriptor, network links."""
    below = {pid for pid in leaks.descendants(platform.process.pid) if leaks.state_of(pid) not in ("", "Z")}
    host = platform.host()
    warden = host["warden"]["pid"]
    listed = [one for kind in ("zygotes", "blanks", "templates", "spares", "instances") for one in host[kind]]
    known = {pid for one in listed for pid in [one["pid"], *leaks.descendants(one["pid"])]} | {warden}
    ids = {one["id"] for one in listed}
    groups = {path for base in host["warden"]["groups"] for path in Path(base).iterdir() if path.is_dir()}
    spaces, mounts = set[str](), set[str]()
    for pid in (platform.process.pid, warden):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                spaces |= {f"{pid} {target}"} if ":[" in target and target.startswith(NAMESPACES) else set()
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
        mounts |= {f"{pid} {line.split(' ')[4]}" for line in lines}
    return {
        "processes": {f"{pid} {leaks.command_of(pid)}" for pid in below - known if leaks.state_of(pid)},
        "groups": {str(path) for path in groups if path.name not in ids},
        "namespaces": spaces,
        "mounts": mounts,
        "links": set(os.listdir("/sys/class/net")),
    }


def left_over(platform: Platform, before: dict[str, set[str]]) -> dict[str, set[str]]:
    """What is held now and was not before any function was deployed, by kind."""
    return {kind: found - before[kind] for kind, found in held(platform).items() if found - before[kind]}


@pytest.fixture(scope="module", params=["root", "rootless"] if "FUYUN_MIXED_LOAD_S" in os.environ else ["rootless"])
def victim(request: pytest.FixtureRequest, nobody: Account) -> Iterator[Platform]:
    """A platform to be hurt."""
    with running(own_account() if request.param == "root" else nobody) as platform:
        yield platform


def test_right_answers_or_typed_errors_and_nothing_left(victim: Platform) -> None:
    before = held(victim)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: victim.deploy(one.name, one.files, **one.spec), FUNCTIONS))
    with load(victim) as everyone:
        killed = kill_at_random(victim, everyone, random.Random(20))
    with httpx.Client(headers=dict(victim.http.headers), trust_env=False, verify=False, timeout=60.0) as http:
        for one in everyone:
            told = len(one.errors), one.right
            one.call(http, 20)
            assert (len(one.errors), one.right) == (told[0], told[1] + 1), (one.function.name, one.errors[-1:])

    print("\n".join(f"{one.function.name}: {one.right} right, {killed[one.function.name]} kills, {len(one.cut)} cut, "
                    f"{dict(Counter(problem['code'] for problem in one.errors))}" for one in everyone))  # fmt: skip
    wrong = "\n".join(f"{one.function.name} {line}" for one in everyone for line in one.wrong)
    assert not wrong, wrong
    for one in everyone:
        hit = len(one.errors) + len(one.cut)
        assert hit <= killed[one.function.name] * one.function.callers, (one.function.name, one.errors)
        for id_ in one.cut:
            assert_record_explains(victim, one.function.name, id_)
    assert sum(len(one.errors) for one in everyone), "no call was inside an instance when it was killed"

    for one in everyone:
        victim.remove(one.function.name)
    wait_until(lambda: not victim.instances(), "the instances to go", 30)
    with suppress(TimeoutError):
        wait_until(lambda: not left_over(victim, before), "nothing to be left", 20, every_s=0.2)
    assert left_over(victim, before) == {}


def assert_record_explains(platform: Platform, name: str, id_: str) -> None:
    """The caller of a stream sees that it was cut; why, and who must act, says the record of the request."""
    url = f"{platform.api}/v1/namespaces/default/functions/{name}/invocations/{id_}"
    found = wait_until(lambda: got if (got := platform.http.get(url)).is_success else None, f"the record of {id_}")
    assert found.json()["error"] in ("instance_lost", "function_exited"), found.json()
