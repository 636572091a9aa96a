"""Generators: guarded for their whole iteration and never with a duplicated item, or refused at decoration."""

import asyncio
import contextlib
import gc

import pytest

from resilient import BulkheadFullError, CircuitOpenError, bulkhead, circuit_breaker, degrade, registry, retry, timeout

from .helpers import Failing, attempted, outcome, run


class SyncStream:
    """The sync face of streams."""

    name = "sync"

    def make(self, items, fail_after=None, calls=None, ends=None):
        def stream():
            if calls is not None:
                calls.append(1)
            try:
                for index, item in enumerate(items):
                    if index == fail_after:
                        raise ConnectionError(index)
                    yield item
                if fail_after == len(items):
                    raise ConnectionError("end")
            finally:
                if ends is not None:
                    ends.append(1)

        return stream

    def take(self, guarded, count=None):
        """Iterate; after `count` items leave early and close. Returns the items and the error."""
        got = []
        try:
            with contextlib.closing(guarded()) as iterator:
                for item in iterator if count != 0 else ():
                    got.append(item)
                    if len(got) == count:
                        break
        except (ConnectionError, CircuitOpenError, BulkheadFullError) as error:
            return got, error
        return got, None

    def paused(self, guarded, during):
        """Take one item, do something, then take the rest."""
        iterator = guarded()
        got = [next(iterator)]
        seen = during()
        return [*got, *iterator], seen


class AsyncStream(SyncStream):
    """The async face of streams."""

    name = "async"

    def make(self, items, fail_after=None, calls=None, ends=None):
        source = super().make(items, fail_after, calls, ends)

        async def stream():
            with contextlib.closing(source()) as inner:
                for item in inner:
                    await asyncio.sleep(0)
                    yield item

        return stream

    def take(self, guarded, count=None):
        async def go():
            got = []
            try:
                async with contextlib.aclosing(guarded()) as iterator:
                    if count == 0:
                        return got, None
                    async for item in iterator:
                        got.append(item)
                        if len(got) == count:
                            break
            except (ConnectionError, CircuitOpenError, BulkheadFullError) as error:
                return got, error
            return got, None

        return run(go())

    def paused(self, guarded, during):
        async def go():
            iterator = guarded()
            got = [await anext(iterator)]
            seen = during()
            return [*got, *[item async for item in iterator]], seen

        return run(go())


@pytest.fixture(params=[SyncStream(), AsyncStream()], ids=lambda stream: stream.name)
def stream(request):
    return request.param


def breaker(**options):
    return circuit_breaker("b", **{"failure_threshold": 1, "recovery_timeout": 60, "half_open_calls": 1, **options})


def counts():
    metrics = registry.circuit_breakers["b"].get_metrics()
    return metrics.success_count, metrics.failure_count


@pytest.mark.parametrize("fail_after", [0, 1, 3])
def test_breaker_sees_a_failure_anywhere(stream, fail_after):
    """A stream that fails before its first item, in the middle or at its end is one failure."""
    guarded = attempted(breaker(), stream.make("abc", fail_after))
    if guarded is not None:
        items, error = stream.take(guarded)
        assert ("".join(items), type(error)) == ("abc"[:fail_after], ConnectionError)
        assert counts() == (0, 1)
        items, error = stream.take(guarded)
        assert (items, type(error)) == ([], CircuitOpenError)


def test_breaker_counts_a_whole_stream_once(stream):
    """A stream iterated to its end is one success, however many items it had."""
    guarded = attempted(breaker(), stream.make("abc"))
    if guarded is not None:
        assert stream.take(guarded) == (list("abc"), None)
        assert counts() == (1, 0)


def test_breaker_judges_only_at_the_end(stream):
    """While the stream runs there is no verdict."""
    guarded = attempted(breaker(), stream.make("abc"))
    if guarded is not None:
        assert stream.paused(guarded, counts) == (list("abc"), (0, 0))
        assert counts() == (1, 0)


@pytest.mark.parametrize(("taken", "expected"), [(1, (1, 0)), (2, (1, 0)), (0, (0, 0))])
def test_breaker_and_early_leaving(stream, taken, expected):
    """A stream left early is a success if an item was delivered, else it says nothing; never a failure."""
    guarded = attempted(breaker(), stream.make("abc"))
    if guarded is not None:
        stream.take(guarded, taken)
        assert counts() == expected


def test_breaker_probe_place_returns(stream, clock):
    """A half-open probe stream that is never started, or left before an item, gives its place back."""
    policy = breaker()
    outcome(policy.call, Failing())
    clock.tick(60)
    guarded = attempted(policy, stream.make("abc"))
    if guarded is not None:
        for _ in range(3):
            stream.take(guarded, 0)
        guarded()
        gc.collect()
        assert policy.call(Failing(None)) == "ok"
        assert policy.state.name == "CLOSED"


def test_bulkhead_holds_the_place_to_the_end(stream):
    """A stream holds its place until it is exhausted."""
    policy = bulkhead("b", max_concurrent=1, max_wait=0)
    guarded = attempted(policy, stream.make("abc"))
    if guarded is not None:
        items, seen = stream.paused(guarded, lambda: (policy.active_requests, outcome(policy.call, Failing(None))))
        assert items == list("abc")
        assert seen[0] == 1
        assert isinstance(seen[1], BulkheadFullError)
        assert policy.active_requests == 0


@pytest.mark.parametrize(("fail_after", "taken"), [(None, 0), (None, 1), (0, None), (1, None), (None, None)])
def test_bulkhead_place_returns_on_every_end(stream, fail_after, taken):
    """Left early, failed, exhausted or never started: the place is free again and the stream's cleanup ran."""
    policy, calls, ends = bulkhead("b", max_concurrent=1, max_wait=0), [], []
    guarded = attempted(policy, stream.make("abc", fail_after, calls, ends))
    if guarded is not None:
        for _ in range(3):
            stream.take(guarded, taken)
            assert policy.active_requests == 0
        assert calls == ends


def test_bulkhead_place_returns_when_dropped():
    """A sync stream dropped without close gives its place back."""
    policy = bulkhead("b", max_concurrent=1, max_wait=0)
    guarded = attempted(policy, SyncStream().make("abc"))
    if guarded is not None:
        iterator = guarded()
        assert next(iterator) == "a"
        del iterator
        gc.collect()
        assert policy.active_requests == 0


def test_never_started_stream_holds_nothing(stream):
    """A stream that was made and not started neither holds a place for ever nor stops others."""
    policy = bulkhead("b", max_concurrent=1, max_wait=0)
    guarded = attempted(policy, stream.make("abc"))
    if guarded is not None:
        for _ in range(3):
            guarded()
        gc.collect()
        assert policy.call(Failing(None)) == "ok"


def test_retry_until_the_first_item(stream):
    """A stream that fails before its first item is started anew."""
    calls = []
    healthy, broken = stream.make("abc", None, calls), stream.make("abc", 0, calls)

    guarded = attempted(retry(max_attempts=3, base_delay=0), _switch(stream, calls, broken, healthy, 2))
    if guarded is not None:
        assert stream.take(guarded) == (list("abc"), None)
        assert len(calls) == 3


def _switch(stream, calls, broken, healthy, failures):
    """Make a stream function that is `broken` for the first `failures` calls."""
    if stream.name == "sync":

        def switch():
            yield from (broken if len(calls) < failures else healthy)()

        return switch

    async def aswitch():
        async for item in (broken if len(calls) < failures else healthy)():
            yield item

    return aswitch


@pytest.mark.parametrize("fail_after", [1, 2, 3])
def test_retry_never_duplicates_items(stream, fail_after):
    """After the first item the error passes: nothing is tried again, no item comes twice."""
    calls = []
    guarded = attempted(retry(max_attempts=3, base_delay=0), stream.make("abc", fail_after, calls))
    if guarded is not None:
        items, error = stream.take(guarded)
        assert ("".join(items), type(error), len(calls)) == ("abc"[:fail_after], ConnectionError, 1)


def test_empty_stream_is_a_success(stream):
    """A stream without items is neither retried nor a failure."""
    calls = []
    guarded = attempted(retry(base_delay=0), stream.make("", None, calls))
    if guarded is not None:
        assert stream.take(guarded) == ([], None)
        assert len(calls) == 1
    guarded = attempted(breaker(), stream.make(""))
    if guarded is not None:
        stream.take(guarded)
        assert counts() == (1, 0)


POLICIES = {
    "retry": lambda: retry(base_delay=0),
    "circuit_breaker": lambda: circuit_breaker("b"),
    "bulkhead": lambda: bulkhead("b"),
    "timeout": lambda: timeout(5),
    "degrade": lambda: degrade(fallback=()),
}
every_policy = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())


@every_policy
def test_send_throw_and_return(policy):
    """A guarded generator keeps send, throw, close and its return value."""

    def talk():
        heard = []
        while True:
            try:
                word = yield len(heard)
            except KeyError:
                word = "caught"
            if word == "stop":
                return heard
            heard.append(word)

    guarded = attempted(policy(), talk)
    if guarded is None:
        return
    conversation = guarded()
    assert next(conversation) == 0
    assert conversation.send("one") == 1
    assert conversation.throw(KeyError("k")) == 2
    with pytest.raises(StopIteration) as caught:
        conversation.send("stop")
    assert caught.value.value == ["one", "caught"]

    def delegate():
        return (yield from guarded())

    delegating = delegate()
    next(delegating)
    with pytest.raises(StopIteration) as caught:
        delegating.send("stop")
    assert caught.value.value == []


@every_policy
def test_asend_athrow_and_aclose(policy):
    """A guarded async generator keeps asend, athrow and aclose."""
    ends = []

    async def talk():
        heard = []
        try:
            while True:
                try:
                    heard.append((yield len(heard)))
                except KeyError:
                    heard.append("caught")
        finally:
            await asyncio.sleep(0)
            ends.append(heard)

    guarded = attempted(policy(), talk)
    if guarded is None:
        return

    async def go():
        conversation = guarded()
        assert await anext(conversation) == 0
        assert await conversation.asend("one") == 1
        assert await conversation.athrow(KeyError("k")) == 2
        await conversation.aclose()
        assert ends == [["one", "caught"]]
        with pytest.raises(StopAsyncIteration):
            await anext(conversation)

    run(go())


@every_policy
def test_errors_of_the_stream_pass_themselves(policy, stream):
    """An error in the middle of a stream reaches the consumer as itself."""
    guarded = attempted(policy(), stream.make("abc", 1))
    if guarded is not None:
        items, error = stream.take(guarded)
        assert (items, type(error)) == (["a"], ConnectionError)


@every_policy
def test_consumer_errors_are_not_the_streams(policy, stream):
    """An error the consumer raises in its own loop body is no failure of the stream."""
    guarded = attempted(policy(), stream.make("abc"))
    if guarded is None:
        return

    def consume():
        for _ in guarded():
            raise ValueError("mine")

    async def aconsume():
        async with contextlib.aclosing(guarded()) as items:
            async for _ in items:
                raise ValueError("mine")

    error = outcome(consume) if stream.name == "sync" else outcome(run, aconsume())
    assert str(error) == "mine"
    gc.collect()
    if "b" in registry.circuit_breakers:
        assert counts()[1] == 0


def test_cancelled_stream_gives_everything_back():
    """An async stream whose consumer is cancelled gives the place back and is no failure."""
    place, policy = bulkhead("b", max_concurrent=1), breaker()

    async def endless():
        while True:
            await asyncio.sleep(0.001)
            yield 1

    guarded = attempted(lambda function: place(policy(function)), endless)
    if guarded is None:
        return

    async def consume():
        async with contextlib.aclosing(guarded()) as items:
            async for _ in items:
                pass

    async def go():
        task = asyncio.ensure_future(consume())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(go())
    assert place.active_requests == 0
    assert counts()[1] == 0
