"""The dispatcher: weights and sticky keys, records and bills, bodies in pieces, streams, changes of the catalog."""

from __future__ import annotations

import asyncio
import gc

import pytest

from fuyun.domain.errors import FunctionRaised, FuyunError, NotFound, ResponseTooLarge, Throttled, Unavailable
from fuyun.domain.invocations import Waterfall
from tests.services.platforms import Caller, Platform, play

GIB = 2**30


# --- which version


def test_weights_hold_over_short_runs() -> None:
    async def scene(p: Platform) -> None:
        p.catalog.put("f", 1)
        p.catalog.put("f", 2)
        p.catalog.put("f", 0)
        p.catalog.alias("f", "live", {1: 90, 2: 10})
        await p.dispatcher.reload("default", "f")
        for _ in range(100):
            p.call(qualifier="live")
            (call,) = await p.inside(1)
            call.answer()

    p = play(scene)
    versions = [record.version for record in p.records.invocations]
    assert versions.count(2) == 10
    assert {record.alias for record in p.records.invocations} == {"live"}


def test_a_sticky_key_meets_one_version() -> None:
    async def scene(p: Platform) -> None:
        p.catalog.put("f", 1)
        p.catalog.put("f", 2)
        p.catalog.alias("f", "live", {1: 50, 2: 50}, sticky="X-User")
        await p.dispatcher.reload("default", "f")
        met: dict[str, set[str]] = {}
        for turn in range(3):
            for user in range(40):
                p.call(qualifier="live", **{"x-user": f"u{user}"})
                (call,) = await p.inside(1)
                met.setdefault(f"u{user}", set()).add(call.head.version)
                assert call.head.alias == "live"
                call.answer()
            if turn == 1:
                await p.dispatcher.reload("default", "f")
        assert {len(versions) for versions in met.values()} == {1}
        assert len({version for versions in met.values() for version in versions}) == 2
        p.call(qualifier="live")  # without a key
        (await p.inside(1))[0].answer()

    play(scene)


def test_an_alias_that_moves_sends_new_requests_elsewhere() -> None:
    async def scene(p: Platform) -> None:
        p.catalog.put("f", 1)
        p.catalog.put("f", 2)
        p.catalog.alias("f", "live", {1: 100})
        await p.dispatcher.reload("default", "f")
        old = p.call(qualifier="live")
        (call,) = await p.inside(1)
        p.catalog.alias("f", "live", {2: 100})
        await p.dispatcher.reload("default", "f")
        new = p.call(qualifier="live")
        await p.inside(2)
        for each in list(p.host.calls):
            each.answer(each.head.version)
        assert (old.value, new.value) == ("1", "2")
        assert call.instance in p.host.instances  # the old version stays warm for a rollback

    play(scene)


def test_a_deleted_function_ends_its_instances() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        caller = p.call()
        (call,) = await p.inside(1)
        p.catalog.delete("f")
        await p.dispatcher.reload("default", "f")
        with pytest.raises(NotFound):
            p.dispatcher.resolve("default", "f", "")
        call.answer("finished")
        assert caller.value == "finished"
        await asyncio.sleep(0.1)
        assert p.host.instances == []

    play(scene)


def test_a_namespace_that_is_gone_when_its_function_is_read() -> None:
    async def scene(p: Platform) -> None:
        p.catalog.put("f", namespace="gone")
        await p.dispatcher.reload("gone", "f")
        caller = p.call(namespace="gone")
        await asyncio.sleep(0.01)
        assert caller.error is not None
        assert caller.error.code == "throttled"

    play(scene)


# --- what is recorded


def test_a_record_says_what_happened() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(memory_bytes=GIB // 2)
        caller = p.call(body=b"four")
        caller.auto_sent = False
        (start,) = await _starts(p, 1)
        await asyncio.sleep(0.3)
        start.ready("zygote", 200.0)
        (call,) = await p.inside(1)
        await asyncio.sleep(0.1005)
        call.answer({}, run_us=99, cpu_us=1500, peak_kib=2048)
        assert caller.flight is not None
        timing = caller.flight.timing
        await asyncio.sleep(0.05)
        caller.flight.sent(201, 77)
        assert timing.startswith("queue;dur=")
        assert "start;dur=200.000" in timing

    p = play(scene, auto_s=None)
    (record,) = p.records.invocations
    assert (record.namespace, record.function, record.version, record.alias) == ("default", "f", 0, "")
    assert (record.status, record.error, record.http_status, record.start_kind) == ("ok", "", 201, "zygote")
    assert (record.request_bytes, record.response_bytes) == (4, 77)
    assert (record.cpu_s, record.memory_peak_bytes) == (0.0015, 2 * 2**20)
    assert record.at_s == pytest.approx(1_800_000_000.0, abs=1)
    fall = record.waterfall
    assert fall.start == pytest.approx(200.0)
    assert fall.queue == pytest.approx(100.0, abs=2)
    assert fall.run == pytest.approx(101, abs=2)
    assert fall.send == pytest.approx(50, abs=1)
    assert record.duration_ms == pytest.approx(sum(getattr(fall, name) for name in Waterfall.__struct_fields__), abs=1)
    assert record.billed_gb_s == pytest.approx(0.5 * 0.102, abs=0.0011)


async def _starts(p: Platform, count: int) -> list:  # type: ignore[type-arg]
    while len(p.host.starts) < count:
        await asyncio.sleep(0.001)
    return list(p.host.starts)


def test_a_request_that_met_a_start_under_way_waited_for_its_tail_only() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=1, concurrency=2)
        p.call()
        (start,) = await _starts(p, 1)
        await asyncio.sleep(0.9)
        p.call()
        await asyncio.sleep(0.1)
        start.ready("none", 1000.0)
        for call in list(await p.inside(2)):
            call.answer()

    p = play(scene, auto_s=None)
    first, second = p.records.invocations
    assert first.waterfall.start == pytest.approx(1000, abs=2)
    assert second.waterfall.start == pytest.approx(100, abs=2)
    assert second.waterfall.queue == 0


def test_calls_that_overlap_share_the_bill() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(memory_bytes=GIB, concurrency=4, max_instances=1)
        p.call()
        await p.inside(1)
        await asyncio.sleep(1)
        p.call()
        await p.inside(2)
        await asyncio.sleep(2)
        for call in list(p.host.calls):
            call.answer()

    p = play(scene)
    bills = [record.billed_gb_s for record in p.records.invocations]
    assert bills == [pytest.approx(2.0, abs=0.01), pytest.approx(1.0, abs=0.01)]


def test_errors_are_recorded_by_their_code() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        caller = p.call()
        (await p.inside(1))[0].fail(FunctionRaised("boom", traceback=["line"]))
        assert caller.error is not None
        assert caller.error.fields == {"traceback": ["line"]}

    p = play(scene)
    assert [(record.status, record.error) for record in p.records.invocations] == [("error", "function_raised")]
    assert p.measures.tally("default", "f").invocations == {("error", "blank"): 1}


def test_lines_are_kept_with_their_request() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        caller = p.call()
        (call,) = await p.inside(1)
        call.sink.on_log("stderr", "warn", "careful")
        call.answer()
        assert caller.flight is not None
        (line,) = p.records.lines
        assert (line.request, line.instance) == (caller.flight.id, call.instance.id)
        assert (line.stream, line.level, line.text) == ("stderr", "warn", "careful")
        with pytest.raises(ValueError, match="log stream"):
            call.sink.on_log("nonsense", "", "")

    play(scene)


# --- bodies and streams


def test_a_body_in_pieces_arrives_in_order_however_late_the_instance_is() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        caller = p.call(body=b"a", end=False)
        flight = caller.flight
        assert flight is not None
        flight.send_body(b"b", False)
        (start,) = await _starts(p, 1)
        flight.send_body(b"c", False)
        start.ready()
        (call,) = await p.inside(1)
        flight.send_body(b"d", True)
        assert (call.body, call.ended) == (b"abcd", True)
        call.sink.on_credit(3)
        assert caller.credit == 3
        call.answer()
        flight.send_body(b"too late", True)

    p = play(scene, auto_s=None)
    assert p.records.invocations[0].request_bytes == 12  # what was sent counts, whether or not anybody read it


def test_a_streamed_answer() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        caller = p.call()
        (call,) = await p.inside(1)
        call.stream(b"a", b"b", end=False)
        assert caller.flight is not None
        caller.flight.consumed(2)
        assert call.consumed_bytes == 2
        call.fail(FunctionRaised("in the middle"))
        assert caller.chunks == [b"a", b"b"]
        assert type(caller.error) is FunctionRaised

    play(scene)


def test_a_streamed_answer_for_somebody_who_left_is_let_through() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        caller = p.call()
        (call,) = await p.inside(1)
        caller.leave()
        call.stream(b"abc", b"de")
        assert call.consumed_bytes == 5

    play(scene)


def test_a_result_over_the_limit_is_an_error() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(output_bytes=10)
        caller = p.call()
        (await p.inside(1))[0].answer("x" * 20)
        assert type(caller.error) is ResponseTooLarge
        assert caller.error.fields == {"limit_bytes": 10, "size_bytes": 22}

    play(scene)


# --- what is seen of it


def test_gauges_and_the_autoscalers_words() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=1)
        p.call()
        p.call()
        await p.inside(1)
        await asyncio.sleep(1.5)
        (gauge,) = p.dispatcher.gauges(7).pools
        assert gauge.states == {"ready": 0, "busy": 1, "starting": 0}
        assert (gauge.queue, gauge.inflight) == (1, 1)
        (word,) = p.dispatcher.scaling()
        assert word["desired"] == 1
        assert word["reason"]
        assert not p.dispatcher.idle
        for _ in range(2):
            (await p.inside(1))[0].answer()
        assert p.dispatcher.idle

    play(scene)


def test_nothing_ticks_on_an_idle_platform() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(idle_timeout_s=2.0)
        p.call()
        (await p.inside(1))[0].answer()
        await asyncio.sleep(10)
        assert p.host.instances == []
        assert p.dispatcher._ticker is None

    play(scene)


def test_a_start_that_breaks_for_an_unknown_reason_is_reported_and_tried_seldom() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy()
        p.broken = RuntimeError("a bug")  # type: ignore[assignment]
        caller = p.call()
        await asyncio.sleep(3.5)
        assert type(caller.error) is Unavailable
        assert p.host.started == 0

    play(scene, queue_wait_s=3.0)
    gc.collect()


def test_a_reload_that_was_overtaken_changes_nothing_back() -> None:
    """Two changes in quick succession: however slow the first reading is, the second's result stays."""

    async def scene(p: Platform) -> None:
        p.catalog.put("f", 1)
        p.catalog.put("f", 2)
        p.catalog.alias("f", "live", {1: 100})
        gate = asyncio.Event()
        p.catalog.slow.append(gate)
        first = asyncio.ensure_future(p.dispatcher.reload("default", "f"))
        await asyncio.sleep(0.01)
        p.catalog.put("f", 3)
        p.catalog.alias("f", "live", {3: 100})
        second = asyncio.ensure_future(p.dispatcher.reload("default", "f"))
        await asyncio.sleep(0.01)
        gate.set()
        await asyncio.gather(first, second)
        caller = p.call(qualifier="live")
        (call,) = await p.inside(1)
        call.answer(call.head.version)
        assert caller.value == "3"

    play(scene)


def test_a_caller_is_never_answered_before_it_holds_its_flight() -> None:
    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=1)
        callers: list[Caller] = [p.call() for _ in range(3)]  # one inside, one waits, one is refused
        for _ in range(2):
            (await p.inside(1))[0].answer()
        assert [type(caller.error) for caller in callers] == [type(None), type(None), Throttled]

    play(scene, queue_length=1)  # `Caller` fails when it is answered before it holds its flight


def test_time_has_one_timer_whatever_a_refusal_brings_about() -> None:
    """A caller that is told it waited too long asks again at once, as a connection with pipelined requests does."""

    def ask_again(p: Platform, caller: Caller) -> None:
        told = caller.on_fail

        def on_fail(error: FuyunError) -> None:
            told(error)
            p.call()

        caller.on_fail = on_fail  # type: ignore[method-assign]

    async def scene(p: Platform) -> None:
        await p.deploy(max_instances=1, timeout_s=600.0)
        p.call()
        (hung,) = await p.inside(1)
        for _ in range(5):
            ask_again(p, p.call())
            await asyncio.sleep(0.3)
        await asyncio.sleep(1.8)
        timers = [h for h in asyncio.get_running_loop()._scheduled if not h.cancelled()]  # type: ignore[attr-defined]
        assert sum(getattr(timer._callback, "__name__", "") == "_tick" for timer in timers) == 1
        assert len(p.pool().queue) == 5
        hung.answer()
        while not all(caller.done for caller in p.callers):
            (await p.inside(1))[0].answer()

    play(scene, queue_wait_s=2.0)
