"""Logs: section 8 of docs/contracts/runtime.md."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.runtime.driver import event_head, worker


def test_lines_leave_as_they_are_completed(tmp_path: Path) -> None:
    """[R 8.1]: seen while the handler still runs."""
    code = """
    import os, sys, time
    def handler(event, context):
        print("one", "two", end="")
        print(" three")
        sys.stderr.write("a\\nb\\nc")
        while not os.path.exists(event):
            time.sleep(0.005)
        print("bytes")
        sys.stdout.buffer.write("é\\n".encode())
        sys.stdout.flush()
        print("unfinished", end="")
    """
    gate = tmp_path / "gate"
    with worker(tmp_path, code) as w:
        stream = w.begin(event_head(), f'"{gate}"'.encode())
        reply = w.replies[stream]
        while len(reply.logs) < 3:
            w.pump()
        assert reply.logs == [
            {"s": "stdout", "l": "", "t": "one two three"},
            {"s": "stderr", "l": "", "t": "a"},
            {"s": "stderr", "l": "", "t": "b"},
        ]
        gate.touch()
        w.wait(stream)
        assert [(line["s"], line["t"]) for line in reply.logs[3:]] == [
            ("stdout", "bytes"),
            ("stdout", "é"),
            ("stdout", "unfinished"),
            ("stderr", "c"),
        ]


def test_logging_keeps_level_and_text_apart(tmp_path: Path) -> None:
    """[R 8.2]"""
    code = """
    import logging
    logging.getLogger("quiet").debug("never seen")
    def handler(event, context):
        logging.info("root %d", 1)
        logging.getLogger("lib").warning("careful")
        context.logger.error("own")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("failed")
        logging.debug("not at INFO")
    """
    with worker(tmp_path, code) as w:
        logs = w.event().logs
        assert [line["l"] for line in logs] == ["info", "warning", "error", "error"]
        assert [line["t"] for line in logs[:3]] == ["root 1", "lib: careful", "own"]
        assert logs[3]["t"].startswith("failed\nTraceback")
        assert logs[3]["t"].endswith("ZeroDivisionError: division by zero")
        assert w.idle_logs == []


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("level=logging.DEBUG", {"s": "log", "l": "debug", "t": "hello"}),
        ("level='DEBUG', format='<%(message)s>'", {"s": "log", "l": "debug", "t": "<hello>"}),
        ("level=logging.DEBUG, stream=sys.stdout, format='%(message)s!'", {"s": "stdout", "l": "", "t": "hello!"}),
        ("level=10, force=True, format='%(levelname)s'", {"s": "stderr", "l": "", "t": "DEBUG"}),
        ("level=10, handlers=[logging.StreamHandler(sys.stdout)]", {"s": "stdout", "l": "", "t": "DEBUG:root:hello"}),
    ],
)
def test_basic_config_works(tmp_path: Path, call: str, expected: dict[str, str]) -> None:
    """[R 8.2]"""
    code = f"""
    import logging, sys
    logging.basicConfig({call})
    def handler(event, context):
        logging.debug("hello")
    """
    with worker(tmp_path, code) as w:
        assert w.event().logs == [expected]


def test_limit_of_an_invocation(tmp_path: Path) -> None:
    """[R 8.3]"""
    code = """
    def handler(event, context):
        for n in range(event):
            print("x" * 99)
        return "answered"
    """
    with worker(tmp_path, code, log_bytes=1000) as w:
        reply = w.event(100_000)
        assert reply.json == "answered"
        assert len(reply.logs) == 11
        assert reply.logs[-1]["l"] == "warning"
        assert "more than 1000 bytes" in reply.logs[-1]["t"]
        assert len(w.event(5).logs) == 5


def test_limit_without_line_feeds(tmp_path: Path) -> None:
    """[R 8.3]: a line without end does not fill the memory."""
    code = """
    import sys
    def handler(event, context):
        for _ in range(1000):
            sys.stdout.write("y" * 10_000)
    """
    with worker(tmp_path, code, log_bytes=100_000) as w:
        logs = w.event().logs
        assert 60_000 < sum(len(line["t"]) for line in logs) < 110_000


def test_loading_belongs_to_no_invocation(tmp_path: Path) -> None:
    """[R 8.4]"""
    code = """
    import atexit, warnings
    print("loading")
    warnings.warn("old", DeprecationWarning)
    print("unfinished", end="")
    def handler(event, context):
        print("handling")
    """
    with worker(tmp_path, code) as w:
        w.wait_ready()
        assert w.event().text == ["handling"]
        assert "loading" in [line["t"] for line in w.idle_logs]


def test_streams_behave_like_files(tmp_path: Path) -> None:
    """[R 8.1]"""
    code = """
    import contextlib, io, subprocess, sys
    def handler(event, context):
        out = sys.stdout
        facts = [out.isatty(), out.encoding, out.writable(), sys.stderr.fileno(), out.closed]
        print("x", file=sys.stderr, flush=True)
        sys.stdout.writelines(["a\\n", "b\\n"])
        sys.stdout.reconfigure(line_buffering=True)
        sys.stdout.close()
        print("still open")
        try:
            sys.stdout.write(b"bytes")
        except TypeError as exc:
            facts.append(str(exc))
        with contextlib.redirect_stdout(io.StringIO()) as caught:
            print("redirected")
        facts.append(caught.getvalue())
        subprocess.run(["true"], stdout=sys.stdout, check=True)
        print("\\udc80 odd \\x00")
        return facts
    """
    with worker(tmp_path, code) as w:
        reply = w.event()
        assert reply.json == [
            False, "utf-8", True, 2, False, "write() argument must be str, not bytes", "redirected\n",
        ]  # fmt: skip
        assert reply.text == ["x", "a", "b", "still open", "\udc80 odd \x00"]


def test_background_threads_write_between_invocations(tmp_path: Path) -> None:
    """[R 8.3] [R 8.5]"""
    code = """
    import threading
    wanted, done = threading.Event(), threading.Event()
    def background():
        while True:
            wanted.wait()
            wanted.clear()
            print("z" * 100)
            done.set()
    threading.Thread(target=background, daemon=True).start()
    wanted.set()
    done.wait()
    def handler(event, context):
        return 1
    """
    with worker(tmp_path, code, log_bytes=1000) as w:
        assert w.wait_ready()["forkable"] is False
        assert "threads are running" in str(w.ready)
        w.event()
        assert w.idle_logs[0]["t"] == "z" * 100


def test_descriptors_1_and_2_stay_the_pipe(tmp_path: Path) -> None:
    """[R 2.4]: `os.write(1)` and child processes reach what the process was started with."""
    code = "import os\nos.write(1, b'raw out\\n')\ndef handler(event):\n    return 1\n"
    with worker(tmp_path, code, stdout=subprocess.PIPE) as w:
        w.wait_ready()
        assert w.process.stdout is not None
        assert w.process.stdout.readline() == b"raw out\n"
        w.process.stdout.close()
