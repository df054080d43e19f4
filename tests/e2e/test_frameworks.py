"""Applications of others' frameworks, unmodified: Flask and FastAPI in `python3` and in `web`, Express and a chat over
WebSockets in `web`. The same files serve in both runtimes: what differs is how the function is described."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.sync.client import connect

from tests.e2e import webapps
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

#: Its memory is one instance's: every request has to meet the same.
ALONE = {"max_instances": 1, "concurrency": 8, "memory_bytes": 512 << 20}
FLASK, FASTAPI = "flask\ngunicorn\n", "fastapi\nuvicorn\nwebsockets\n"
UVICORN = "uvicorn chat:app --host 0.0.0.0 --port $PORT"


def guest_book(platform: Platform, url: str) -> None:
    """`webapps.FLASK`"""
    assert platform.http.post(f"{url}/", data={"entry": "Ada é"}).json() == ["Ada é"]
    assert platform.http.post(f"{url}/", data={"entry": "Bob"}).json() == ["Ada é", "Bob"]
    assert platform.http.get(f"{url}/").json() == ["Ada é", "Bob"]
    assert platform.http.get(f"{url}/boom").status_code == 500
    assert platform.http.put(f"{url}/").status_code == 405
    assert "Not Found" in platform.http.get(f"{url}/missing").text


def weather(platform: Platform, url: str) -> None:
    """The HTTP part of `webapps.CHAT`"""
    assert platform.http.get(f"{url}/members").json() == 0
    assert platform.http.get(f"{url}/openapi.json").json()["info"]["title"] == "FastAPI"
    with platform.http.stream("GET", f"{url}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        assert sum(line.startswith("data:") for line in events.iter_lines()) == 5
    assert platform.http.get(f"{url}/missing").json() == {"detail": "Not Found"}


def chat(platform: Platform, url: str) -> None:
    """The other part of it."""
    address, key = url.replace("http", "ws", 1), {"authorization": f"Bearer {platform.key}"}
    with (
        connect(f"{address}/chat/ada", additional_headers=key, proxy=None) as ada,
        connect(f"{address}/chat/bob", additional_headers=key, proxy=None) as bob,
    ):
        wait_until(lambda: platform.http.get(f"{url}/members").json() == 2, "both to be in the room")
        for one, name in ((ada, "ada"), (bob, "bob")):
            one.send(f"I am {name}")
            assert ada.recv(20) == bob.recv(20) == f"{name}: I am {name}"


def shop(platform: Platform, url: str) -> None:
    """`tests/e2e/express/server.js`"""
    assert platform.http.get(f"{url}/").text == "shop"
    assert platform.http.post(f"{url}/carts/ada", json={"tea": 2}).json() == [{"tea": 2}]
    with platform.http.stream("GET", f"{url}/prices") as events:
        assert [line for line in events.iter_lines() if line] == [f"data: {number}" for number in range(5)]
    assert platform.http.get(f"{url}/boom").status_code == 500
    assert "Cannot GET /missing" in platform.http.get(f"{url}/missing").text


_PYTHON3, _WEB = {"runtime": "python3"}, {"runtime": "web"}
_FLASK, _CHAT = {"app.py": webapps.FLASK}, {"chat.py": webapps.CHAT}
#: name: its code, how it is described, what is asked of it
APPLICATIONS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "flask-python3": (_FLASK, {**_PYTHON3, "handler": "app:app", "requirements": FLASK}, guest_book),
    "flask-web": (_FLASK, {**_WEB, "command": "gunicorn --threads 8 app:app", "requirements": FLASK}, guest_book),
    "fastapi-python3": (_CHAT, {**_PYTHON3, "handler": "chat:app", "requirements": FASTAPI}, weather),
    "fastapi-web": (_CHAT, {**_WEB, "command": UVICORN, "requirements": FASTAPI}, weather),
    "express-web": (None, {**_WEB, "command": "node server.js"}, shop),
    "chat-web": (_CHAT, {**_WEB, "command": UVICORN, "requirements": FASTAPI}, chat),
}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_of_somebody_elses_framework(either_platform: Platform, name: str) -> None:
    files, spec, asked = APPLICATIONS[name]
    either_platform.deploy(name, files or webapps.express(), **ALONE, **spec)
    try:
        asked(either_platform, either_platform.url(name))
    finally:
        either_platform.remove(name)
