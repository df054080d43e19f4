"""The runtime `web` through the real gateway: servers in several languages, none of which knows of Fuyun."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.e2e import webapps
from tests.leaks import state_of
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MIB = 2**20
PYTHON = "python3 server.py"


@contextmanager
def deployed(platform: Platform, name: str, files: dict[str, str | bytes], **spec: Any) -> Iterator[str]:
    """Deploy a server for the time of the block; its address at the gateway."""
    spec = {"runtime": "web", "concurrency": 80, **spec}
    platform.deploy(name, files, **spec)
    try:
        yield platform.url(name)
    finally:
        platform.remove(name)


def plain(extra: str = webapps.SERVE) -> dict[str, str | bytes]:
    return {"server.py": webapps.PLAIN + extra}


def sockets(platform: Platform, url: str) -> ClientConnection:
    return connect(
        url.replace("http", "ws", 1), additional_headers={"authorization": f"Bearer {platform.key}"}, proxy=None
    )


def records(platform: Platform, name: str) -> set[tuple[str, int]]:
    """How the function's invocations went: (status, HTTP status)."""
    listed = platform.http.get(f"{platform.api}/v1/namespaces/default/functions/{name}/invocations")
    assert listed.is_success, listed.text
    return {(one["status"], one["http_status"]) for one in listed.json()["items"]}


def test_a_static_file_server(platform: Platform) -> None:
    files: dict[str, str | bytes] = {"public/index.html": "<h1>site</h1>", "public/a/b.bin": bytes(range(256)) * 1000}
    command = "python3 -m http.server $PORT --directory public"
    with deployed(platform, "web-static", files, command=command) as url:
        page = platform.http.get(f"{url}/")
        assert (page.text, page.headers["content-type"]) == ("<h1>site</h1>", "text/html")
        assert platform.http.get(f"{url}/a/b.bin").content == files["public/a/b.bin"]
        assert platform.http.head(f"{url}/a/b.bin").headers["content-length"] == "256000"
        assert platform.http.get(f"{url}/nothing").status_code == 404
        same = {"if-modified-since": page.headers["last-modified"]}
        assert platform.http.get(f"{url}/", headers=same).status_code == 304


def test_a_compiled_server(platform: Platform, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"bootstrap": webapps.compiled(tmp_path)}
    with deployed(platform, "web-c", files, concurrency=1, memory_bytes=32 * MIB, max_instances=1) as url:
        numbers = [int(platform.http.get(url).text.split()[1]) for _ in range(20)]
        assert numbers == sorted(numbers)  # one process answers them all
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: platform.http.get(url).status_code, range(40)))
        assert found == [200] * 40


def test_express(platform: Platform) -> None:
    with deployed(platform, "web-express", webapps.express(), command="node server.js") as url:
        assert platform.http.get(f"{url}/").text == "shop"
        assert platform.http.post(f"{url}/carts/ada", json={"tea": 2}).json() == [{"tea": 2}]
        assert platform.http.post(f"{url}/carts/ada", json={"cup": 1}).json() == [{"tea": 2}, {"cup": 1}]
        with platform.http.stream("GET", f"{url}/prices") as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            assert [line for line in events.iter_lines() if line] == [f"data: {number}" for number in range(5)]
        assert platform.http.get(f"{url}/boom").status_code == 500
        assert platform.http.get(f"{url}/missing").status_code == 404
        logged = "listening on 8080"
        wait_until(lambda: logged in platform.cli("logs", "web-express").stdout.decode(), "what it printed")


def test_flask_with_gunicorn(platform: Platform) -> None:
    spec: dict[str, Any] = {"command": "gunicorn --workers 1 --threads 8 app:app", "requirements": "flask\ngunicorn\n"}
    with deployed(platform, "web-flask", {"app.py": webapps.FLASK}, **spec) as url:
        assert platform.http.post(f"{url}/", data={"entry": "Ada"}).json() == ["Ada"]
        assert platform.http.get(f"{url}/").json() == ["Ada"]
        assert platform.http.get(f"{url}/boom").status_code == 500
        trace = "RuntimeError: no paper"
        wait_until(lambda: trace in platform.cli("logs", "web-flask").stdout.decode(), "the traceback")
        with ThreadPoolExecutor(8) as pool:
            assert [a.status_code for a in pool.map(lambda _: platform.http.get(f"{url}/"), range(64))] == [200] * 64


@pytest.fixture(scope="module")
def chat(platform: Platform) -> Iterator[str]:
    requirements = "fastapi\nuvicorn\nwebsockets\n"
    command = "uvicorn chat:app --host 0.0.0.0 --port $PORT"
    spec: dict[str, Any] = {"requirements": requirements, "command": command, "timeout_s": 1.0}
    with deployed(platform, "web-chat", {"chat.py": webapps.CHAT}, **spec) as url:
        yield url


def test_a_chat_over_websockets(platform: Platform, chat: str) -> None:
    with sockets(platform, f"{chat}/chat/ada") as ada, sockets(platform, f"{chat}/chat/bob") as bob:
        wait_until(lambda: platform.http.get(f"{chat}/members").json() == 2, "both to be in the room")
        ada.send("hello")
        assert ada.recv(20) == bob.recv(20) == "ada: hello"
        big = random.Random(7).randbytes(MIB // 4).hex()  # half of what a client takes by default
        bob.send(big)
        assert ada.recv(20) == bob.recv(20) == f"bob: {big}"
        bob.send("leave")
        with pytest.raises(ConnectionClosed) as closed:
            bob.recv(20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "as you wish")
        wait_until(lambda: platform.http.get(f"{chat}/members").json() == 1, "one to have left")
    wait_until(lambda: platform.http.get(f"{chat}/members").json() == 0, "nobody to be left")


def test_the_timeout_does_not_cut_a_websocket(platform: Platform, chat: str) -> None:
    with sockets(platform, f"{chat}/chat/ada") as ada:
        for number in range(20):  # two seconds and more: twice the function's timeout
            ada.send(str(number))
            assert ada.recv(20) == f"ada: {number}"
            with pytest.raises(TimeoutError):
                ada.recv(0.12)
    wait_until(lambda: ("ok", 101) in records(platform, "web-chat"), "its record")


def test_a_websocket_ends_with_its_instance(platform: Platform, chat: str) -> None:
    with sockets(platform, f"{chat}/chat/ada") as ada:
        ada.send("here")
        assert ada.recv(20) == "ada: here"
        [instance] = platform.instances_of("web-chat")
        psutil.Process(instance["pid"]).kill()
        with pytest.raises(ConnectionClosed):
            ada.recv(20)
    assert platform.http.get(f"{chat}/members").json() == 0  # another one


def test_server_sent_events_of_fastapi(platform: Platform, chat: str) -> None:
    with platform.http.stream("GET", f"{chat}/events") as events:
        assert sum(line.startswith("data:") for line in events.iter_lines()) == 5


def test_other_runtimes_refuse_websockets(platform: Platform) -> None:
    platform.deploy("web-not", "def handler(event, context):\n    return 1\n")
    with pytest.raises(InvalidStatus) as refused:
        sockets(platform, platform.url("web-not"))
    assert refused.value.response.status_code == 501
    assert json.loads(refused.value.response.body)["code"] == "unsupported"
    platform.remove("web-not")


@pytest.fixture(scope="module")
def server(platform: Platform) -> Iterator[str]:
    with deployed(platform, "web-plain", plain(), command=PYTHON, payload_bytes=64 * MIB, max_instances=1) as url:
        yield url


def test_what_a_server_is_told(platform: Platform, server: str) -> None:
    answer = platform.http.get(f"{server}/a%20b?c=d", headers={"x-forwarded-for": "192.0.2.1"})
    told = {name.lower(): value for name, value in answer.json()["headers"].items()}
    assert answer.json()["path"] == "/a%20b?c=d"
    assert told["x-forwarded-for"] == "192.0.2.1, 127.0.0.1"
    assert told["x-forwarded-proto"] == "http"
    assert f"http://{told['x-forwarded-host']}" == platform.gateway
    assert told["x-forwarded-prefix"] == "/fn/default/web-plain"
    assert told["fuyun-request-id"] == answer.headers["fuyun-request-id"]
    assert "authorization" not in told
    assert platform.http.get(f"{server}/status/418").status_code == 418


def test_an_event_is_a_post(platform: Platform, server: str) -> None:
    payload = b'{"a": 1}'
    done = platform.cli("invoke", "web-plain", "-d", payload.decode())
    assert done.returncode == 0, done.stderr
    sent = {hashlib.sha256(text).hexdigest() for text in (payload, b'{"a":1}')}
    found = json.loads(done.stdout)
    assert found["sha256"] in sent
    assert found["type"] == "application/json"


@pytest.mark.parametrize("chunked", [False, True])
def test_large_bodies_stream_through_flat_memory(platform: Platform, server: str, chunked: bool) -> None:
    piece, count = bytes(range(256)) * 256, 800  # 50 MiB
    process = psutil.Process(platform.process.pid)

    def body() -> Iterator[bytes]:
        for _ in range(count):
            yield piece

    platform.http.get(f"{server}/status/200")
    before = process.memory_info().rss
    most = before
    headers = {} if chunked else {"content-length": str(len(piece) * count)}
    answer = platform.http.post(f"{server}/", content=body(), headers=headers)
    assert answer.json()["sha256"] == hashlib.sha256(piece * count).hexdigest()
    most = max(most, process.memory_info().rss)
    size = 0
    with platform.http.stream("GET", f"{server}/bytes/{len(piece) * count}") as download:
        for part in download.iter_bytes():
            size += len(part)
            if size % (8 * MIB) < len(part):
                most = max(most, process.memory_info().rss)
    assert size == len(piece) * count
    assert most - before < 16 * MIB


def test_one_instance_serves_many_requests_at_once(platform: Platform, server: str) -> None:
    with ThreadPoolExecutor(40) as pool:
        found = {pool.submit(platform.http.get, f"{server}/sleep/0.3") for _ in range(40)}
        instances = {future.result().json() for future in found}
    assert len(instances) == 1


def test_what_it_prints_is_in_the_log_of_the_request(platform: Platform, server: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        printing = pool.submit(platform.http.get, f"{server}/print")
        wait_until(lambda: b"a word for the log" in platform.cli("logs", "web-plain").stdout, "the line")
        assert platform.http.get(f"{server}/go").json() == "gone on"
        answer = printing.result()
    told = platform.cli("logs", "web-plain", "--request", answer.headers["fuyun-request-id"])
    assert b"a word for the log" in told.stdout


def test_a_crash_in_the_middle_of_an_answer(platform: Platform) -> None:
    with deployed(platform, "web-crash", plain(), command=PYTHON) as url:
        with platform.http.stream("GET", f"{url}/half") as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()
        assert platform.http.get(f"{url}/status/200").status_code == 200  # a new instance
        wait_until(lambda: ("error", 200) in records(platform, "web-crash"), "the record of the crash")


def test_one_that_never_listens_is_refused_at_deploy(platform: Platform) -> None:
    code: dict[str, str | bytes] = {"server.py": "import time\nprint('reading the map', flush=True)\ntime.sleep(100)\n"}
    answer = platform.try_deploy(
        "web-never", code, runtime="web", command=PYTHON, readiness={"path": "", "timeout_s": 1.0}
    )
    problem = answer.json()
    assert problem["code"] == "function_init_failed"
    assert "not ready on port 8080 after 1 s: nothing listens" in problem["detail"]
    assert problem["traceback"] == ["reading the map"]


def test_one_that_listens_late_is_waited_for(platform: Platform) -> None:
    late = plain("time.sleep(1.5)\n" + webapps.SERVE)
    with deployed(platform, "web-late", late, command=PYTHON) as url:
        assert platform.http.get(f"{url}/status/200").status_code == 200


def test_one_that_ignores_sigterm_is_ended(platform: Platform) -> None:
    deaf = plain("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + webapps.SERVE)
    platform.deploy("web-deaf", deaf, runtime="web", command=PYTHON)
    assert platform.http.get(f"{platform.url('web-deaf')}/status/200").status_code == 200
    [instance] = platform.instances_of("web-deaf")
    platform.remove("web-deaf")
    wait_until(lambda: state_of(instance["pid"]) in ("", "Z"), "its instance to be gone", 20)


def test_one_that_drains_is_let(platform: Platform) -> None:
    gentle = plain(
        "import threading\nserver = Server(('', int(os.environ['PORT'])), Handler)\n"
        "signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())\n"
        "server.serve_forever()\nprint('the shop is closed', flush=True)\n"
    )
    platform.deploy("web-gentle", gentle, runtime="web", command=PYTHON, concurrency=8)
    url = platform.url("web-gentle")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(platform.http.get, f"{url}/sleep/1.0")
        wait_until(
            lambda: (
                bool(platform.instances_of("web-gentle")) and bool(platform.instances_of("web-gentle")[0]["inflight"])
            ),
            "the request to be inside",
        )
        platform.deploy("web-gentle", gentle, runtime="web", command=PYTHON, concurrency=9)
        assert running.result().status_code == 200
    wait_until(lambda: b"the shop is closed" in platform.cli("logs", "web-gentle").stdout, "its last words", 20)
    platform.remove("web-gentle")


def test_a_rootless_platform_serves_too(rootless_platform: Platform) -> None:
    with deployed(rootless_platform, "web-rootless", plain(), command=PYTHON, memory_bytes=512 * MIB) as url:
        assert rootless_platform.http.get(f"{url}/status/200").status_code == 200
        body = bytes(5 * MIB)
        answer = rootless_platform.http.post(f"{url}/", content=body)
        assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
