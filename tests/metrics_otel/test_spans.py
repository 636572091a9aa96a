"""What went wrong in a guarded call, as events of the span that is current in it."""

import asyncio
import threading

import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

from resilient import bulkhead, circuit_breaker, degrade, registry, retry, timeout
from resilient.logs import LINES
from resilient.metrics import install_otel, otel_spans, uninstall_otel

from .helpers import Traces


def fail(text: str = "down") -> None:
    raise ConnectionError(text)


async def afail() -> None:
    raise ConnectionError("down")


def quietly(call, *args) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is
        call(*args)


def test_retries(traces):
    """A failed attempt and a call given up are events, with the log's names and the fields of the event."""
    with traces.tracer.start_as_current_span("call"):
        quietly(retry(max_attempts=2, base_delay=0, name="fetch").call, fail)
    assert traces.events("call") == [
        (
            "retry.scheduled",
            {"policy": "fetch", "kind": "retry", "attempt": 1, "delay": 0.0, "error": "ConnectionError: down"},
        ),
        (
            "retry.exhausted",
            {
                "policy": "fetch",
                "kind": "retry",
                "attempts": 2,
                "error": "ConnectionError: down",
                "reason": "attempts",
            },
        ),
    ]


def test_breaker_and_bulkhead(traces):
    """Changes of a breaker and rejections are events, and say who has rejected."""
    breaker = circuit_breaker("pay", failure_threshold=1, recovery_timeout=60)
    crowd = bulkhead("crowd", max_concurrent=1, max_wait=0)
    with traces.tracer.start_as_current_span("call"):
        quietly(breaker.call, fail)
        quietly(breaker.call, fail)
        with crowd:
            quietly(crowd.call, print)
    changed, rejected, full = traces.events("call")
    assert changed[0] == "circuit_breaker.state_changed"
    assert (changed[1]["old"], changed[1]["new"], changed[1]["kind"]) == ("closed", "open", "circuit_breaker")
    assert rejected[0] == full[0] == "call.rejected"
    assert (rejected[1]["policy"], rejected[1]["kind"], rejected[1]["reason"]) == ("pay", "circuit_breaker", "open")
    assert (full[1]["policy"], full[1]["kind"], full[1]["reason"]) == ("crowd", "bulkhead", "full")


def test_fallbacks(traces):
    """A fallback that was served, and one that failed, are events."""
    with traces.tracer.start_as_current_span("call"):
        degrade(fail, fallback=[lambda: fail("also down"), 3], name="spare")()
    assert traces.names("call") == ["degrade.fallback_failed", "degrade.fallback_served"]
    assert traces.events("call")[1][1] == {
        "policy": "spare",
        "kind": "degrade",
        "error": "ConnectionError: down",
        "source": "fallback",
    }


@pytest.mark.parametrize("method", ["thread", "cooperative"])
def test_timeout(traces, method):
    """A call that took too long is an event of its caller's span, also where it works in another thread."""
    guarded = timeout(0.02, method=method, name="slow")(lambda: threading.Event().wait(0.06))
    with traces.tracer.start_as_current_span("call"), pytest.raises(TimeoutError):
        guarded()
    ((name, attributes),) = traces.events("call")
    assert name == "call.timed_out"
    assert (attributes["policy"], attributes["kind"], attributes["limit"]) == ("slow", "timeout", 0.02)


def test_inside_a_timeout(traces):
    """What happens in the thread of a timeout belongs to the span of the caller, or to one opened inside."""

    def work() -> None:
        quietly(retry(max_attempts=1, name="plain").call, fail)
        with traces.tracer.start_as_current_span("inner"):
            quietly(retry(max_attempts=1, name="nested").call, fail)

    with traces.tracer.start_as_current_span("outer"):
        timeout(5, name="roomy")(work)()
    assert [attributes["policy"] for _, attributes in traces.events("outer")] == ["plain"]
    assert [attributes["policy"] for _, attributes in traces.events("inner")] == ["nested"]


def test_tasks(traces):
    """Each of several tasks gets the events of its own calls, timeouts and waits for a place included."""
    impatient = timeout(0.02, name="slow")
    crowd = bulkhead("crowd", max_concurrent=1, max_wait=0.01)
    again = retry(max_attempts=2, base_delay=0.001, name="again")

    async def in_span(name, call, *args) -> None:
        with traces.tracer.start_as_current_span(name), pytest.raises(Exception):  # noqa: B017, PT011 - any
            await call(*args)

    async def main() -> None:
        async with crowd:
            await asyncio.gather(
                in_span("timed out", impatient.acall, asyncio.sleep, 1),
                in_span("rejected", crowd.acall, asyncio.sleep, 0),
                in_span("retried", again.acall, afail),
            )

    asyncio.run(main())
    assert traces.names("timed out") == ["call.timed_out"]
    assert traces.names("rejected") == ["call.rejected"]
    assert traces.names("retried") == ["retry.scheduled", "retry.exhausted"]


def test_threads(traces):
    """Each of several threads gets the events of its own calls."""

    def work(name: str) -> None:
        with traces.tracer.start_as_current_span(name):
            quietly(retry(max_attempts=1, name=name).call, fail)

    threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        assert [attributes["policy"] for _, attributes in traces.events(f"thread {number}")] == [f"thread {number}"]


def test_nested_spans(traces):
    """An event belongs to the innermost span, and to no other."""
    policy = retry(max_attempts=1, name="nested")
    with traces.tracer.start_as_current_span("outer"), traces.tracer.start_as_current_span("inner"):
        quietly(policy.call, fail)
    assert traces.names("inner") == ["retry.exhausted"]
    assert traces.names("outer") == []


def test_success(traces):
    """A call that simply succeeds leaves no event."""
    guarded = degrade(fallback=0)(retry()(circuit_breaker("fine")(bulkhead("fine")(int))))
    with traces.tracer.start_as_current_span("call"):
        assert guarded() == 0
    assert traces.events("call") == []


def test_not_recorded(installed, monkeypatch):
    """Without a span that is recorded, nothing is made ready for one."""
    made = []
    monkeypatch.setattr(otel_spans, "attributes_of", lambda *args: made.append(args) or {})
    policy = retry(max_attempts=1, name="unseen")
    quietly(policy.call, fail)
    ignored = trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)
    with trace.use_span(ignored):
        quietly(policy.call, fail)
    assert made == []


def test_arguments_and_results(traces):
    """Neither arguments nor results of a call are in its span."""
    with traces.tracer.start_as_current_span("call"):
        policy = retry(max_attempts=2, base_delay=0, retry_on_result=lambda result: True, name="poll")
        quietly(policy.call, lambda word: f"{word} spoken", "password")
    assert "password" not in repr(traces.events("call"))
    assert traces.events("call")[0][1] == {"policy": "poll", "kind": "retry", "attempt": 1, "delay": 0.0}


def test_long_texts(traces):
    """The text of an error is cut to 200 characters, in one line; one that cannot be had does no harm."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def mute() -> None:
        raise MuteError

    with traces.tracer.start_as_current_span("call"):
        quietly(retry(max_attempts=1, name="long").call, fail, "a\nb" + "c" * 900)
        quietly(retry(max_attempts=1, name="mute").call, mute)
    long, mute_error = (attributes["error"] for _, attributes in traces.events("call"))
    assert len(long) == 200
    assert long.startswith("ConnectionError: a\\nbccc")
    assert long.endswith("…")
    assert mute_error.startswith("MuteError")


def test_names():
    """Every event that spans get has a name in the log, from where they take it."""
    assert all(LINES[kind].event for kind in otel_spans.TYPES)


def test_span_that_raises(installed, caplog):
    """A span that raises does not reach the call."""

    class BrokenSpan(trace.NonRecordingSpan):
        def is_recording(self) -> bool:
            return True

        def add_event(self, *args, **kwargs) -> None:
            raise RuntimeError("no space left")

    with trace.use_span(BrokenSpan(trace.INVALID_SPAN_CONTEXT)):
        quietly(retry(max_attempts=1, name="unharmed").call, fail)
    assert "events.handler_failed" in [getattr(record, "event", "") for record in caplog.records]


def test_exporter_that_raises(installed):
    """An exporter that raises does not reach the call."""

    class BrokenExporter(SpanExporter):
        def export(self, spans) -> None:
            exported.append(spans)
            raise RuntimeError("no space left")

    exported: list = []
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(BrokenExporter()))
    with provider.get_tracer("tests").start_as_current_span("call"):
        quietly(retry(max_attempts=2, base_delay=0, name="unharmed").call, fail)
    assert len(exported) == 1
    provider.shutdown()


def test_not_wanted(target, traces_only):
    """With `tracer_events=False` spans stay as they are."""
    install_otel(target.provider, tracer_events=False)
    with traces_only.tracer.start_as_current_span("call"):
        quietly(retry(max_attempts=1, name="untraced").call, fail)
    assert traces_only.events("call") == []


def test_scoped(traces):
    """Inside `scoped()` spans get no events until it is installed there; afterwards they get each event once."""

    def call(span: str) -> Traces:
        with traces.tracer.start_as_current_span(span):
            quietly(retry(max_attempts=1, name="scoped").call, fail)
        return traces

    other = NoOpMeterProvider()
    with registry.scoped():
        assert call("put aside").names("put aside") == []
        install_otel(other)
        install_otel(other)
        assert call("inside").names("inside") == ["retry.exhausted"]
    assert call("afterwards").names("afterwards") == ["retry.exhausted"]
    uninstall_otel(other)
    assert call("still").names("still") == ["retry.exhausted"]


def test_names_that_cannot_be_written(traces):
    """Half a surrogate pair in a name is written as an escape, or the exporter would lose the whole span."""
    with traces.tracer.start_as_current_span("call"):
        quietly(retry(max_attempts=1, name="a\ud800").call, fail)
    ((_, attributes),) = traces.events("call")
    assert attributes["policy"] == "a\\ud800"
