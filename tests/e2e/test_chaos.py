"""`kill -9` of every part under load: typed errors, service again, nothing left over (issue rows of promise 1)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests import leaks
from tests.running import Account, Platform, own_account, running
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow_lane, pytest.mark.timeout(120)]

HELLO = "def handler(event, context):\n    return {'hello': 'world'}\n"
SLOW = "import time\n\ndef handler(event, context):\n    time.sleep(0.05)\n    return {'hello': 'world'}\n"
#: What a request may be told when a part dies under it; none of them blames the author.
OURS = {"instance_lost", "unavailable"}
#: How a connection ends or is refused while there is no platform.
CUT = {"ConnectError", "ReadError", "RemoteProtocolError", "WriteError"}
#: Says on descriptor 1 that it runs: what a process wrote into that pipe outlives it.
TELLING = """
import os, time

def handler(event, context):
    os.write(1, f"ran {context.request_id}\\n".encode())
    time.sleep(PAUSE_S)
    return context.request_id
"""


class Callers:
    """Threads that call a function in a closed loop until told to stop."""

    def __init__(self, platform: Platform, name: str) -> None:
        self.platform, self.name = platform, name
        self.stopping = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self.answered: list[str] = []  # ids of the requests with a good answer
        self.good_at_s = 0.0

    def call(self) -> None:
        headers = {"authorization": f"Bearer {self.platform.key}"}
        with httpx.Client(headers=headers, trust_env=False, verify=False, timeout=30.0) as http:
            while not self.stopping.is_set():
                try:
                    answer = http.post(self.platform.url(self.name), json={})
                except httpx.TransportError as error:
                    self.outcomes[type(error).__name__] += 1
                    self.stopping.wait(0.02)
                    continue
                if answer.status_code == 200:
                    self.outcomes["ok"] += 1
                    self.answered.append(answer.headers["fuyun-request-id"])
                    self.good_at_s = time.monotonic()
                else:
                    self.outcomes[answer.json()["code"]] += 1

    def served_since(self, moment_s: float) -> bool:
        """Whether a good answer came after `moment_s`."""
        return self.good_at_s > moment_s

    @property
    def failures(self) -> dict[str, int]:
        """Everything that was no good answer."""
        return {name: count for name, count in self.outcomes.items() if name != "ok"}


@contextmanager
def load(platform: Platform, name: str, callers: int = 4) -> Iterator[Callers]:
    """Load for the time of the block, running before the block begins."""
    found = Callers(platform, name)
    threads = [threading.Thread(target=found.call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: found.outcomes["ok"] > 20, "the load to be served", 30)
        yield found
    finally:
        found.stopping.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module", params=["root", "rootless"])
def victim(request: pytest.FixtureRequest, nobody: Account) -> Iterator[Platform]:
    """A platform to be hurt, shared by the tests of this file."""
    with running(own_account() if request.param == "root" else nobody) as platform:
        platform.deploy("hello", HELLO)
        platform.deploy("slow", SLOW)
        yield platform


@pytest.fixture(params=["hello", "slow"])
def loaded(request: pytest.FixtureRequest, victim: Platform) -> Iterator[Callers]:
    with load(victim, request.param) as callers:
        yield callers


def test_killing_instances(victim: Platform, loaded: Callers) -> None:
    for _ in range(5):
        wait_until(lambda: victim.kill_instances(loaded.name, most=1), "an instance")
        moment_s = time.monotonic()
        wait_until(lambda since=moment_s: loaded.served_since(since), "service after the kill")
    assert set(loaded.failures) <= OURS, loaded.failures
    assert sum(loaded.failures.values()) <= 5 * 4


@pytest.mark.parametrize("pause_s", [0, 0.05])
def test_killing_instances_runs_no_request_twice(victim: Platform, pause_s: float) -> None:
    """Promise 1: a call that has begun is not repeated by the platform, whatever dies under it."""
    name = f"telling-{int(pause_s * 1000)}"
    victim.deploy(name, TELLING.replace("PAUSE_S", str(pause_s)))
    with load(victim, name, 8) as callers:
        for _ in range(8):
            wait_until(lambda: victim.kill_instances(name), "an instance")
            moment_s = time.monotonic()
            wait_until(lambda since=moment_s: callers.served_since(since), "service after the kill")
    runs = Counter(text.split()[1] for text in told(victim, name, len(callers.answered)))
    victim.remove(name)
    assert [id_ for id_, count in runs.items() if count != 1] == []
    assert Counter(callers.answered).most_common(1)[0][1] == 1
    assert set(callers.answered) <= set(runs)
    assert callers.failures or not pause_s  # calls that were inside when it was killed
    assert set(callers.failures) <= OURS, callers.failures


def told(platform: Platform, name: str, least: int) -> list[str]:
    """The lines of the function that say "ran", once there are `least`."""
    url = f"{platform.api}/v1/namespaces/default/functions/{name}/logs"

    def lines() -> list[str]:
        items = platform.http.get(url, params={"limit": 10_000}).raise_for_status().json()["items"]
        assert len(items) < 10_000, "more lines than one page shows"
        found = [item["text"] for item in items if item["text"].startswith("ran ")]
        return found if len(found) >= least else []

    return wait_until(lines, f"{least} lines of {name}", every_s=0.2)


def test_killing_zygotes(victim: Platform, loaded: Callers) -> None:
    before = {zygote["pid"] for zygote in victim.host()["zygotes"]}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: {z["pid"] for z in victim.host()["zygotes"]} - before, "a new zygote", 20)
    moment_s = time.monotonic()
    wait_until(lambda: loaded.served_since(moment_s), "service after the kill")
    assert set(loaded.failures) <= OURS, loaded.failures


def test_killing_the_warden(victim: Platform, loaded: Callers) -> None:
    host = victim.host()
    warden = host["warden"]["pid"]
    below = [one["pid"] for kind in ("zygotes", "blanks", "templates", "spares", "instances") for one in host[kind]]
    os.kill(warden, signal.SIGKILL)
    moment_s = time.monotonic()
    wait_until(lambda: loaded.served_since(moment_s + 0.001), "service after the kill", 20)
    wait_until(lambda: victim.host()["warden"]["pid"] not in (0, warden), "another warden", 20)
    wait_until(lambda: not any(leaks.state_of(pid) not in ("", "Z") for pid in below), "what it had started to end")
    assert set(loaded.failures) <= OURS, loaded.failures


@pytest.mark.parametrize("part", ["instances", "warden"])
def test_requests_in_flight_get_a_typed_error(victim: Platform, part: str) -> None:
    """And they have run once: nothing begins again what has begun."""
    name = f"long-{part}"  # what a removed function wrote stays with its name
    victim.deploy(name, TELLING.replace("PAUSE_S", "event.get('pause_s', 0)"), timeout_s=60.0)
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(victim.invoke(name, {"pause_s": 30}))) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun = told(victim, name, 3)
    for one in victim.instances_of(name) if part == "instances" else [victim.host()["warden"]]:
        os.kill(one["pid"], signal.SIGKILL)
    for thread in threads:
        thread.join(10)
    # One that came later runs before anything that was put back could.
    after = wait_until(
        lambda: got if (got := victim.invoke(name, {})).is_success else None, "service after the kill", 20
    )
    ran = told(victim, name, 4)
    victim.remove(name)
    assert [answer.status_code for answer in answers] == [503] * 3
    for answer in answers:
        problem = answer.json()
        assert problem["code"] == "instance_lost"
        assert problem["hint"]
        assert problem["request_id"]
    assert sorted(ran) == sorted([*begun, f"ran {after.json()}"])
    assert sorted(begun) == sorted(f"ran {answer.json()['request_id']}" for answer in answers)


def control_groups(platform: Platform) -> set[str]:
    """The control groups of the platform's instances, by what the kernel says of their processes."""
    found: set[str] = set()
    for one in platform.host()["instances"]:
        names = Path(f"/proc/{one['pid']}/cgroup").read_text()
        found |= {group for group in leaks.cgroups() if Path(group).name in names}
    return found


def test_killing_the_platform(start_platform: Callable[..., Platform]) -> None:
    platform = start_platform()
    platform.deploy("hello", HELLO, publish=True, alias="live")
    key, mounts = platform.key, leaks.mounts()
    with load(platform, "hello") as callers:
        host, groups = platform.host(), control_groups(platform)
        assert groups or host["warden"]["cgroup"] == 0
        everyone = [
            one["pid"] for kind in ("zygotes", "blanks", "templates", "spares", "instances") for one in host[kind]
        ]
        everyone.append(host["warden"]["pid"])
        assert not callers.failures
        platform.kill()
        wait_until(lambda: not any(leaks.state_of(pid) not in ("", "Z") for pid in everyone), "everything to end")
        wait_until(lambda: not leaks.mounts() - mounts, "mounts to be gone")
        wait_until(lambda: callers.failures, "the callers to notice")
        platform.restart()
        moment_s = time.monotonic()
        wait_until(lambda: callers.served_since(moment_s), "service after the restart")
    # Nobody is told anything wrong: a connection ends or is refused, and then the platform answers again.
    assert set(callers.failures) <= CUT, callers.failures
    wait_until(lambda: not [group for group in groups if os.path.exists(group)], "the control groups to be gone")
    assert platform.key == key
    assert platform.invoke("hello", {}).json() == {"hello": "world"}
    assert platform.invoke("hello", {}, qualifier="live").json() == {"hello": "world"}
    own = control_groups(platform)
    assert own or platform.host()["warden"]["cgroup"] == 0
    assert platform.stop() == 0
    assert not [group for group in own if os.path.exists(group)]
    platform.restart()


def test_a_platform_that_comes_back_repeats_nothing(start_platform: Callable[..., Platform]) -> None:
    """A synchronous call that had begun ends with its connection, and is the caller's to repeat."""
    platform = start_platform()
    platform.deploy("long", TELLING.replace("PAUSE_S", "event.get('pause_s', 0)"), timeout_s=60.0)
    ends: list[str] = []

    def call() -> None:
        with pytest.raises(httpx.TransportError) as ended:
            platform.invoke("long", {"pause_s": 30})
        ends.append(type(ended.value).__name__)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun = told(platform, "long", 3)
    platform.kill()
    for thread in threads:
        thread.join(10)
    platform.restart()
    after = platform.invoke("long", {}).json()
    assert sorted(told(platform, "long", 4)) == sorted([*begun, f"ran {after}"])
    assert len(ends) == 3
    assert set(ends) <= CUT


def test_stopping_lets_requests_finish(start_platform: Callable[..., Platform]) -> None:
    platform = start_platform()
    platform.deploy("long", "import time\n\ndef handler(event, context):\n    time.sleep(1.5)\n    return 'done'\n")
    answers: list[httpx.Response] = []
    call = threading.Thread(target=lambda: answers.append(platform.invoke("long", {})))
    call.start()
    wait_until(lambda: any(one["inflight"] for one in platform.instances_of("long")), "the request to be under way")
    platform.process.send_signal(signal.SIGTERM)
    call.join(20)
    assert answers[0].json() == "done"
    assert platform.process.wait(20) == 0
