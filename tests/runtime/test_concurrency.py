"""Several invocations at once: [R 1.5], [R 8.5]."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic_ns, process_time_ns

from fuyun.runtime.answers import Meter, result_frame
from tests.runtime.driver import Worker, event_head, worker

MEET = """
import threading
meeting = threading.Barrier(PARTIES, timeout=10)
def handler(event, context):
    print(f"before {event}")
    meeting.wait()
    print(f"after {event}")
    return [event, context.request_id, threading.current_thread() is threading.main_thread()]
"""


def begin_all(w: Worker, count: int) -> list[int]:
    return [w.begin(event_head(id=f"r{n}"), json.dumps(n).encode()) for n in range(count)]


def test_threads_run_as_many_as_the_concurrency(tmp_path: Path) -> None:
    with worker(tmp_path, MEET.replace("PARTIES", "8"), concurrency=8) as w:
        assert w.wait_ready()["style"] == "threads"
        for _ in range(3):
            for n, stream in enumerate(begin_all(w, 8)):
                reply = w.wait(stream)
                assert reply.json[:2] == [n, f"r{n}"]
                assert reply.text == [f"before {n}", f"after {n}"]


def test_threads_stay_as_few_as_needed(tmp_path: Path) -> None:
    code = "import threading\ndef handler(event, context):\n    return threading.active_count()\n"
    with worker(tmp_path, code, concurrency=50) as w:
        assert max(w.event().json for _ in range(20)) <= 4  # an answer leaves before its thread rests


def test_a_stream_that_waits_does_not_stop_the_others(tmp_path: Path) -> None:
    code = """
    def handler(event, context):
        if event == "quick":
            return 1
        return (b"x" * 65536 for _ in range(20))
    """
    with worker(tmp_path, code, concurrency=3) as w:
        w.auto_credit = False
        slow = [w.begin(event_head(), b'"slow"') for _ in range(2)]
        while sum(len(w.replies[stream].body) for stream in slow) < 2 * 4 * 65536:
            w.pump()
        assert w.event("quick").json == 1
        for stream in slow:
            w.credit(stream, 1 << 30)
            assert len(w.wait(stream).body) == 20 * 65536


def test_inline_runs_on_the_main_thread(tmp_path: Path) -> None:
    with worker(tmp_path, MEET.replace("PARTIES", "1")) as w:
        assert w.wait_ready()["style"] == "inline"
        assert w.event(1).json[2] is True


def test_tasks_run_at_once_and_keep_their_logs_apart(tmp_path: Path) -> None:
    code = """
    import asyncio
    waiting = []
    async def inner(event):
        print(f"inner {event}")
    async def handler(event, context):
        print(f"before {event}")
        await asyncio.get_running_loop().create_task(inner(event))
        waiting.append(asyncio.get_running_loop().create_future())
        if len(waiting) == 20:
            for future in waiting:
                future.set_result(None)
            waiting.clear()
        else:
            await waiting[-1]
        await asyncio.to_thread(print, f"thread {event}")
        return [event, context.request_id]
    """
    with worker(tmp_path, code, concurrency=20) as w:
        assert w.wait_ready()["style"] == "async"
        for n, stream in enumerate(begin_all(w, 20)):
            reply = w.wait(stream)
            assert reply.json == [n, f"r{n}"]
            assert reply.text == [f"before {n}", f"inner {n}", f"thread {n}"]


def test_a_handler_behind_a_decorator_may_be_async(tmp_path: Path) -> None:
    code = """
    import asyncio, functools
    def plain(function):
        def wrapped(event, context):
            return function(event, context)
        return wrapped
    def polite(function):
        @functools.wraps(function)
        def wrapped(*args):
            return function(*args)
        return wrapped
    async def work(event, context):
        await asyncio.sleep(0)
        return [event, context.request_id]
    unmarked, marked = plain(work), polite(work)
    """
    for name, style in (("unmarked", "inline"), ("marked", "async")):
        (tmp_path / name).mkdir()
        with worker(tmp_path / name, code, f"app.{name}") as w:
            assert w.wait_ready()["style"] == style
            assert w.event(5).json == [5, "req-1"]


def test_threads_a_handler_starts_are_attributed_to_it(tmp_path: Path) -> None:
    code = """
    import threading
    def handler(event, context):
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
    """
    with worker(tmp_path, code) as w:
        assert w.event().text == ["from a thread"]


def test_as_many_threads_as_the_limit_allows(tmp_path: Path) -> None:
    """[R 1.5]: calls wait for a thread when no more can be started; streams go on meanwhile."""
    code = """
    import threading
    start = threading.Thread.start
    def limited(thread):
        if threading.active_count() >= 3:
            raise RuntimeError("can't start new thread")
        start(thread)
    threading.Thread.start = limited

    def handler(event, context):
        return (b"x" * 65536 for _ in range(10))
    """
    with worker(tmp_path, code, concurrency=50) as w:
        streams = [w.begin(event_head()) for _ in range(20)]
        for stream in streams:
            assert len(w.wait(stream).body) == 655360


def test_no_thread_at_all(tmp_path: Path) -> None:
    """[R 6.5]"""
    code = """
    import threading
    def refuse(thread):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = refuse
    def handler(event, context):
        return 1
    """
    with worker(tmp_path, code, concurrency=2) as w:
        assert w.wait_failed()["code"] == "function_init_failed"


def test_a_clock_read_before_another_threads_counts_for_nothing() -> None:
    """[R 12.4]: threads share a meter, and one may be held up between reading the clock and counting."""
    meter = Meter()
    meter._cpu_ns = process_time_ns() + 10**12
    usage = meter.usage(monotonic_ns())
    assert usage[1] == 0
    assert result_frame(1, usage, (200, None, b"1"))
