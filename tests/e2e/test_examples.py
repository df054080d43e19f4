"""Every example and every project template, deployed by the real command line and called over HTTP."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from fuyun.cli.init import TEMPLATES
from tests.running import Platform
from tests.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(platform: Platform, *words: str, stdin: bytes = b"") -> str:
    """A command that must succeed; what it printed."""
    done = platform.cli(*words, stdin=stdin, timeout_s=200)
    assert done.returncode == 0, (words, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode()


def make_image(project: Path) -> None:
    """Run the script of a project that makes its image."""
    subprocess.run([project / "make-image.sh"], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def deployed(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The platform with all examples on it."""
    projects = sorted(path.parent for path in EXAMPLES.glob("*/fuyun.yaml"))
    for at, project in enumerate(projects):
        if (project / "make-image.sh").exists():  # not in the project's own folder
            projects[at] = tmp_path_factory.mktemp("made") / project.name
            shutil.copytree(project, projects[at], ignore=shutil.ignore_patterns("image"))
            make_image(projects[at])
    assert {project.name for project in projects} >= {
        "calling",
        "hello",
        "java-words",
        "thumbnail",
        "watermark",
        "flask-app",
        "image-site",
        "fastapi-app",
        "node-feed",
        "reach",
        "wasm-wordcount",
        "web-chat",
    }
    for project in projects:
        run(platform, "deploy", str(project))
    yield platform
    for project in projects:
        run(platform, "remove", str(project), "--yes")


def photograph(width: int, height: int) -> bytes:
    """A PNG with a gradient, made without any library."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in (x % 256, y % 256, 64)) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_hello(deployed: Platform) -> None:
    assert json.loads(run(deployed, "invoke", "hello", "-d", '{"name": "Ada"}'))["hello"] == "Ada"
    answer = deployed.http.get(deployed.url("hello"), params={"name": "Grace"})
    assert answer.json()["hello"] == "Grace"
    assert answer.json()["request"] == answer.headers["fuyun-request-id"]
    assert "greeting Grace" in run(deployed, "logs", "hello")


def test_reach(deployed: Platform) -> None:
    targets = {"targets": ["169.254.169.254:80", "192.0.2.1:22", "files.example.net:443"]}
    found = json.loads(run(deployed, "invoke", "reach", "-d", json.dumps(targets)))
    assert found == {
        "169.254.169.254:80": "not reached: No route to host",
        "192.0.2.1:22": "not reached: No route to host",
        "files.example.net:443": "not reached: Temporary failure in name resolution",
    }
    assert "refused: tcp 169.254.169.254:80 by policy" in run(deployed, "logs", "reach")
    assert "refused: name files.example.net by policy" in run(deployed, "logs", "reach")


def test_watermark(deployed: Platform) -> None:
    picture = photograph(320, 240)
    answer = httpx.post(
        f"{deployed.gateway}/watermark", content=picture, headers={"content-type": "image/png"}, verify=False
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content[:3] == b"\xff\xd8\xff"
    assert jpeg_size(answer.content) == (320, 240)
    plain = httpx.post(
        f"{deployed.gateway}/watermark?text=", content=picture, headers={"content-type": "image/png"}, verify=False
    )
    assert plain.content != answer.content
    refused = httpx.post(f"{deployed.gateway}/watermark", content=b"no picture", verify=False)
    assert refused.status_code == 415


def test_thumbnail(deployed: Platform) -> None:
    """From an upload to a rule's target; what is no picture is told of and not tried again."""
    p = deployed
    for words in (("bucket", "create", "photos"), ("bucket", "create", "thumbnails"), ("bus", "create", "pictures"),
                  ("bus", "rule", "pictures", "announce", "--to", "function:announce",
                   "--filter", '{"type": "thumbnail.made"}')):  # fmt: skip
        run(p, *words)
    try:
        run(p, "object", "put", "-", "photos/in/wide.png", stdin=photograph(640, 200))
        run(p, "object", "put", "-", "photos/none.png", stdin=b"no picture")
        wait_until(lambda: "there is a thumbnail of in/wide.png: in/wide.jpg, 320 x 100" in run(p, "logs", "announce"),
                   "the second function to be told", 60)  # fmt: skip
        assert jpeg_size(p.cli("object", "get", "thumbnails/in/wide.jpg", "-").stdout) == (320, 100)
        wait_until(lambda: "none.png is no picture" in run(p, "logs", "thumbnail"), "it to be told of", 60)

        def states() -> list[tuple[str, str]]:
            listed = json.loads(run(p, "async", "list", "--json"))
            ours = [one for one in listed if one["origin"].endswith(("/objects", "/announce"))]
            return sorted((one["target"], one["state"]) for one in ours)

        done = [("function:announce", "succeeded"), *[("function:thumbnail", "succeeded")] * 2]
        wait_until(lambda: states() == done, "all to be settled", 60)
    finally:
        for place in ("photos/in/wide.png", "photos/none.png", "thumbnails/in/wide.jpg"):
            run(p, "object", "delete", place, "--yes")
        for words in (
            ("bucket", "delete", "photos"),
            ("bucket", "delete", "thumbnails"),
            ("bus", "delete", "pictures"),
        ):
            run(p, *words, "--yes")


def test_node_feed(deployed: Platform) -> None:
    with httpx.stream("GET", f"{deployed.gateway}/feed/?count=2", verify=False) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        text = "".join(answer.iter_text())
    assert text == "id: 1\ndata: entry 1\ndata: of 2\n\nid: 2\ndata: entry 2\ndata: of 2\n\n"
    assert httpx.get(f"{deployed.gateway}/feed/summary?count=7", verify=False).json()["count"] == 7
    assert "serving 7 entries" in run(deployed, "logs", "node-feed")


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header (ISO/IEC 10918-1, B.2.2)."""
    stream = io.BytesIO(data)
    stream.seek(2)
    while True:
        marker, length = struct.unpack(">HH", stream.read(4))
        if 0xFFC0 <= marker <= 0xFFC3:
            height, width = struct.unpack(">xHH", stream.read(5))
            return width, height
        stream.seek(length - 2, io.SEEK_CUR)


def test_flask_application(deployed: Platform) -> None:
    with httpx.Client(base_url=deployed.gateway, trust_env=False, verify=False) as http:
        assert "Guest book" in http.get("/guestbook/").text
        assert http.post("/guestbook/", data={"entry": ""}).status_code == 400
        signed = http.post("/guestbook/", data={"entry": "<b>Ada</b>"})
        assert signed.status_code == 201
        assert "&lt;b&gt;Ada" in signed.text
        assert "<b>Ada</b>" in http.get("/guestbook/entries").json()
        assert http.get("/guestbook/nowhere").status_code == 404


def test_fastapi_application(deployed: Platform) -> None:
    with httpx.Client(base_url=deployed.gateway, trust_env=False, verify=False) as http:
        answer = http.post("/weather/convert", json={"station": "north", "celsius": 0.0}, params={"to": "fahrenheit"})
        assert answer.json() == {"station": "north", "fahrenheit": 32.0}
        refused = http.post("/weather/convert", json={"station": "north", "celsius": -300})
        assert refused.status_code == 422
        with http.stream("GET", "/weather/countdown/5", params={"pause_ms": 20}) as streamed:
            assert list(streamed.iter_lines()) == ["5", "4", "3", "2", "1"]
        preflight = http.options(
            "/weather/convert", headers={"origin": "https://a.example", "access-control-request-method": "POST"}
        )
        assert preflight.is_success
        assert preflight.headers["access-control-allow-origin"] in ("*", "https://a.example")
        assert http.get("/weather/openapi.json").json()["info"]["title"] == "Weather"


def test_a_shell_script(deployed: Platform) -> None:
    answer = httpx.post(
        f"{deployed.gateway}/words", content="the cat and the dog and the bird", trust_env=False, verify=False
    )
    assert answer.text == "3 the\n2 and\n1 bird\n1 cat\n1 dog\n"
    assert answer.headers["content-type"].startswith("text/plain")
    refused = httpx.post(f"{deployed.gateway}/words", trust_env=False, verify=False)
    assert refused.status_code == 502
    assert refused.json()["code"] == "function_raised"
    told = run(deployed, "logs", "words")
    assert "an empty text has no words" in told
    assert "ExitStatus: words.sh exited with status 3" in told


def test_wordcount_in_webassembly(deployed: Platform) -> None:
    with httpx.Client(base_url=deployed.gateway, trust_env=False, verify=False) as http:
        answer = http.post("/wordcount", content="one two\nthree\n" * 20_000)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"lines": 40_000, "words": 60_000, "bytes": 280_000}
        refused = http.get("/wordcount")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert json.loads(run(deployed, "invoke", "wordcount", "-d", '"a b"')) == {"lines": 0, "words": 2, "bytes": 5}
    assert "280000 bytes counted" in run(deployed, "logs", "wordcount")


def test_words_in_java(deployed: Platform) -> None:
    with httpx.Client(base_url=deployed.gateway, trust_env=False, verify=False, timeout=60) as http:
        answer = http.post("/java-words", content="to be or not to be", headers={"content-type": "text/plain"})
        assert (answer.status_code, answer.json()) == (200, {"be": 2, "not": 1, "or": 1, "to": 2})
        refused = http.post("/java-words", content="")
        assert (refused.status_code, refused.json()["code"]) == (502, "function_raised")
    assert json.loads(run(deployed, "invoke", "java-words", "-d", '"a b a"')) == {"a": 2, "b": 1}
    assert "4 different words" in run(deployed, "logs", "java-words")


def test_a_site_in_an_image(deployed: Platform) -> None:
    with httpx.Client(base_url=deployed.gateway, trust_env=False, verify=False) as http:
        assert "Served from an OCI image" in http.get("/image-site/").text
        about = http.get("/image-site/cgi-bin/about").text
        assert about == "greeting: from fuyun.yaml\nuser: 1000\nfolder: /srv/cgi-bin\n"


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_templates_can_be_deployed_at_once(platform: Platform, template: str) -> None:
    name = f"made-from-{template}"
    run(platform, "init", name, "--template", template)
    if template == "image":
        missing = platform.cli("deploy", name)
        assert (missing.returncode, b"image does not exist" in missing.stderr) == (2, True)
        make_image(platform.root / name)
    run(platform, "deploy", name)
    if template in ("python-event", "custom", "java"):
        assert json.loads(run(platform, "invoke", name))
    elif template == "wasm":
        assert json.loads(run(platform, "invoke", name, "-d", '{"name": "Ada"}')) == {"name": "Ada"}
        assert "echoing" in run(platform, "logs", name)
    else:
        answer = platform.http.get(platform.url(name) + "/")
        assert answer.status_code == 200, answer.text
        invoked = platform.cli("invoke", name, "-d", "{}")
        if template in ("python-http", "nodejs"):
            assert (invoked.returncode, json.loads(invoked.stdout)["statusCode"]) == (0, 200)
        elif template == "web":
            assert invoked.returncode == 0, invoked.stderr
        elif template == "image":
            assert f"<h1>Hello from {name}</h1>" in answer.text
        else:  # they serve GET only, and the command says so
            assert (invoked.returncode, b"405 Method Not Allowed" in invoked.stderr) == (3, True)
            assert platform.url(name).encode() in invoked.stderr
    run(platform, "remove", name, "--yes")


def test_chat_over_websockets(deployed: Platform) -> None:
    assert "<title>Chat" in httpx.get(f"{deployed.gateway}/chat/", verify=False).text
    base = deployed.gateway.replace("http", "ws", 1)
    with connect(f"{base}/chat/rooms/lobby?name=Ada", proxy=None) as ada:
        ada.send("hello")
        assert ada.recv(20) == "Ada: hello"
        with connect(f"{base}/chat/rooms/lobby?name=Bob", proxy=None) as bob:
            bob.send("me too")
            assert ada.recv(20) == bob.recv(20) == "Bob: me too"


def test_deploying_again_changes_nothing(deployed: Platform) -> None:
    before = run(deployed, "fn", "versions", "hello", "--json")
    run(deployed, "deploy", str(EXAMPLES / "hello"))
    assert run(deployed, "fn", "versions", "hello", "--json") == before


def test_calling_asks_other_functions(deployed: Platform) -> None:
    items = {"tea": 4, "pot": 1, "cup": 2, "spoon": 6}
    answer = deployed.invoke("order", {"items": items})
    assert answer.json() == {"total": 54.45, "percent": 10, "unknown": ["spoon"]}
