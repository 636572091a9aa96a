"""inject: faults happen inside the policies of decorated functions, and nothing of them is left afterwards."""

import asyncio
import errno
import functools
import threading

import pytest

from resilient import (
    CallTimeoutError,
    CircuitOpenError,
    ConfigurationError,
    UnknownNameError,
    circuit_breaker,
    retry,
    timeout,
)
from resilient.testing import faults, inject
from resilient.testing.injection import ACTIVE
from resilient.wrapping import STAND_INS, Guarded

REFUSED = faults.NetworkFailure("refused")
again = functools.partial(retry, max_attempts=3, on=OSError, base_delay=0.0, jitter=False)


@pytest.fixture(autouse=True)
def nothing_left():
    """Fail the test that leaves an injection or a stand-in behind."""
    yield
    assert ACTIVE == []
    assert STAND_INS.find is None


def run(coroutine):
    """Run a coroutine in a loop of its own."""
    return asyncio.run(coroutine)


def entry(guarded):
    """The compiled chain of a guarded function."""
    return Guarded.__dict__["__call__"].__get__(guarded)


def reached(function, found=None):
    """Every function that a chain can reach through its closures."""
    found = [] if found is None else found
    if not any(function is one for one in found):
        found.append(function)
        for cell in getattr(function, "__closure__", None) or ():
            if callable(cell.cell_contents):
                reached(cell.cell_contents, found)
    return found


# Inside the policies


def test_retry_absorbs_faults():
    """A fault happens inside the retry: two of them cost two attempts, and the caller sees none."""
    calls = []

    @again()
    def load():
        calls.append(1)
        return "answer"

    with inject(load, REFUSED, max_count=2) as injection:
        assert load() == "answer"
    assert (injection.calls, injection.fired, len(calls)) == (3, 2, 1)


def test_breaker_counts_faults():
    """A fault happens inside the breaker, which opens and lets no further call reach the fault."""

    @circuit_breaker("api", failure_threshold=2, recovery_timeout=60)
    def load():
        return "answer"

    with inject("api", REFUSED) as injection:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                load()
        with pytest.raises(CircuitOpenError):
            load()
    assert injection.fired == 2


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_timeout_sees_latency(kind):
    """Latency is inside the timeout, which ends the call."""
    if kind == "sync":
        fast = timeout(0.02)(lambda: "answer")
        call = fast
    else:

        @timeout(0.02)
        async def fast():
            return "answer"

        def call():
            return run(fast())

    with inject(fast, faults.Latency(0.1)), pytest.raises(CallTimeoutError):
        call()


def test_latency_delays_and_answers():
    """A call with latency takes so much longer, and then gives its answer."""
    import time

    load = again()(lambda: "answer")
    began = time.monotonic()
    with inject(load, faults.Latency(0.03)):
        assert load() == "answer"
    assert time.monotonic() - began >= 0.03


# Every kind of function


class Client:
    """Has a method of each kind."""

    @again()
    def get(self, key):
        return self, key

    @classmethod
    @again()
    def of_class(cls, key):
        return cls, key

    @staticmethod
    @again()
    def of_nobody(key):
        return key

    @again()
    async def aget(self, key):
        return self, key


@pytest.mark.parametrize("way", ["get", "of_class", "of_nobody", "aget"])
def test_methods(way):
    """Methods, classmethods, staticmethods and async methods are bound as ever, with a fault inside."""
    client = _client_class()()
    bound = {"get": (client, 1), "of_class": (type(client), 1), "of_nobody": 1, "aget": (client, 1)}[way]
    with inject("methods", REFUSED, max_count=2) as injection:
        result = getattr(client, way)(1)
        assert (run(result) if way == "aget" else result) == bound
    assert (injection.calls, injection.fired) == (3, 2)


def _client_class():
    """A class of its own, in the registry of the test."""
    policy = again(name="methods")

    class Own:
        @policy
        def get(self, key):
            return self, key

        @classmethod
        @policy
        def of_class(cls, key):
            return cls, key

        @staticmethod
        @policy
        def of_nobody(key):
            return key

        @policy
        async def aget(self, key):
            return self, key

    return Own


@pytest.mark.parametrize("way", ["get", "of_class", "of_nobody"])
def test_bound_target(way):
    """A decorated method is a target in the form that attribute access gives."""
    client = Client()
    with inject(getattr(client, way), REFUSED, max_count=1) as injection:
        getattr(client, way)(1)
    assert (injection.calls, injection.fired) == (2, 1)


def test_partial():
    """A guarded partial meets faults."""
    load = again()(functools.partial(lambda one, two: (one, two), 1))
    with inject(load, REFUSED, max_count=2) as injection:
        assert load(2) == (1, 2)
    assert injection.fired == 2


def test_async():
    """A guarded async function meets faults inside its retry."""

    @again()
    async def load():
        return "answer"

    with inject(load, REFUSED, max_count=2) as injection:
        assert run(load()) == "answer"
    assert (injection.calls, injection.fired) == (3, 2)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("form", ["lambda", "def"])
@pytest.mark.parametrize("fault", [REFUSED, faults.Latency(0.001)], ids=repr)
def test_plain_function_that_returns_a_coroutine(form, settled, fault):
    """A plain function whose calls turn out to be coroutines meets faults, before and after that is known."""

    async def fetch():
        return "answer"

    def plain(key):
        return fetch()

    load = again()((lambda key: fetch()) if form == "lambda" else plain)

    async def main():
        if settled:
            assert await load(1) == "answer"
        with inject(load, fault, max_count=1) as injection:
            assert await load(1) == "answer"
        assert injection.fired == 1
        return await load(1)

    assert run(main()) == "answer"


def test_delay_of_a_coroutine_leaves_the_loop_free():
    """Latency of a lambda that returns a coroutine is awaited: other tasks run meanwhile."""

    async def fetch():
        return "answer"

    load = again()(lambda key: fetch())

    async def main():
        done = []
        with inject(load, faults.Latency(0.05)):
            task = asyncio.ensure_future(load(1))
            while not task.done():
                done.append(1)
                await asyncio.sleep(0.005)
        return len(done)

    assert run(main()) >= 3


def test_generators():
    """A generator meets faults when it starts; what is sent, thrown and returned passes through."""

    @again()
    def items():
        got = yield 1
        try:
            yield got
        except KeyError:
            yield 3
        return "end"

    with inject(items, faults.CorruptResult(lambda one: one * 10)) as injection:
        stream = items()
        assert next(stream) == 10
        assert stream.send(2) == 20
        assert stream.throw(KeyError()) == 30
        with pytest.raises(StopIteration) as stop:
            next(stream)
    assert stop.value.value == "end"
    assert injection.fired == 1
    with inject(items, REFUSED, max_count=2) as injection:
        assert next(items()) == 1
    assert injection.fired == 2


def test_closed_generator_closes_the_one_inside():
    """Closing a generator that meets a fault ends the user's own at once."""
    ended = []

    def items():
        try:
            yield 1
            yield 2
        finally:
            ended.append(True)

    with inject(_place(items), faults.CorruptResult(lambda one: -one)):
        stream = PLACE["module"].items()
        assert next(stream) == -1
        stream.close()
        assert ended == [True]


def test_async_generators():
    """An async generator meets faults when it starts; what is sent and thrown passes through, and it is closed."""
    ended = []

    @again()
    async def items():
        try:
            got = yield 1
            try:
                yield got
            except KeyError:
                yield 3
        finally:
            ended.append(True)

    async def main():
        with inject(items, faults.CorruptResult(lambda one: one * 10)):
            stream = items()
            got = [await anext(stream), await stream.asend(2), await stream.athrow(KeyError())]
            await stream.aclose()
        with inject(items, REFUSED, max_count=2) as injection:
            assert await anext(items()) == 1
        return got, injection.fired

    assert run(main()) == ([10, 20, 30], 2)
    assert len(ended) == 2


def test_decorated_inside_the_block():
    """A function that is decorated while a policy has faults meets them."""
    policy = again(name="late")
    with inject("late", REFUSED, max_count=1) as injection:
        load = policy(lambda: "answer")
        assert load() == "answer"
        assert injection.fired == 1
    assert load() == "answer"
    assert injection.calls == 2


# What is left


@pytest.mark.parametrize("made", ["before", "inside"])
def test_same_chain_afterwards(made):
    """After the block the compiled chain is of the very same functions as one that never met an injection."""

    def load():
        return "answer"

    policy = again(name="same")
    untouched = [one.__code__ for one in reached(entry(policy(load))) if hasattr(one, "__code__")]
    guarded = policy(load)
    guarded()
    untouched = [one.__code__ for one in reached(entry(guarded)) if hasattr(one, "__code__")]
    with inject("same", REFUSED):
        if made == "inside":
            guarded = policy(load)
        assert load not in [one for one in reached(entry(guarded)) if type(one) is type(load)]
    guarded()
    parts = reached(entry(guarded))
    assert [one.__code__ for one in parts if hasattr(one, "__code__")] == untouched
    assert any(one is load for one in parts)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_removed_however_the_block_ends(kind):
    """Whatever the block raises passes through, and the faults are gone, in decorated functions and paths."""
    load = again()(lambda: "answer")
    before = Plain.__dict__["own"]
    with pytest.raises(kind), inject(load, REFUSED), inject(f"{__name__}:Plain.own", REFUSED):
        raise kind
    assert load() == "answer"
    assert Plain.__dict__["own"] is before


def test_removed_on_cancellation():
    """A cancelled task leaves no faults."""

    @again()
    async def load():
        return "answer"

    async def work(begun):
        async with inject(load, faults.Latency(30)):
            begun.set()
            await load()

    async def main():
        begun = asyncio.Event()
        task = asyncio.ensure_future(work(begun))
        await begun.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await load()

    assert run(main()) == "answer"


def test_remove():
    """`remove()` ends an injection early, and once more does nothing."""
    load = again()(lambda: "answer")
    with inject(load, REFUSED) as injection:
        injection.remove()
        assert load() == "answer"
        injection.remove()
    assert injection.ended >= injection.began
    assert injection.calls == 0


def test_used_once():
    """An injection is for one block: its counts are about that one."""
    load = again()(lambda: "answer")
    with inject(load, REFUSED) as injection:
        pass
    with pytest.raises(RuntimeError, match="make a new injection"), injection:
        pass


def test_call_under_way_ends_with_its_fault():
    """A call that has begun before the block ends goes on in the chain that it began in."""
    inside, go = threading.Event(), threading.Event()

    def hold():
        inside.set()
        go.wait(5)
        raise ConnectionResetError(errno.ECONNRESET, "held")

    load = circuit_breaker("held")(lambda: "answer")
    outcome = []

    def work():
        try:
            load()
        except ConnectionResetError as error:
            outcome.append(str(error))

    with inject("held", faults.Custom(hold)):
        thread = threading.Thread(target=work)
        thread.start()
        assert inside.wait(5)
    assert load() == "answer"
    go.set()
    thread.join(5)
    assert "held" in outcome[0]


# Several at once


def test_two_faults_on_one_target():
    """Two faults on one function both happen: the one injected last is the outer one."""
    load = again()(lambda: 1)
    with (
        inject(load, faults.CorruptResult(lambda one: one + 1)) as inner,
        inject(load, faults.CorruptResult(lambda one: one * 10)) as outer,
    ):
        assert load() == 20
    assert (inner.fired, outer.fired) == (1, 1)
    assert load() == 1


def test_outer_fault_hides_the_inner():
    """A call that the outer fault has ended does not come by the inner one."""
    load = circuit_breaker("both")(lambda: 1)
    disk = faults.ResourceExhaustion("disk")
    full = pytest.raises(OSError, match="No space left")
    with inject("both", REFUSED) as inner, inject(load, disk) as outer, full:
        load()
    assert (inner.calls, outer.calls) == (0, 1)


@pytest.mark.parametrize("target", ["guarded", "path"])
def test_ended_in_any_order(target):
    """Injections of one target may end in any order: each takes away its own fault only."""
    load = again()(lambda: 1)
    where = load if target == "guarded" else f"{__name__}:Plain.nobody"
    call = load if target == "guarded" else lambda: Plain.nobody(1)
    found = Plain.__dict__["nobody"]
    first = inject(where, faults.CorruptResult(lambda one: one + 1))
    second = inject(where, faults.CorruptResult(lambda one: one * 10))
    with first:
        with second:
            assert call() == 20
            first.remove()
            assert call() == 10
        assert call() == 1
    assert call() == 1
    assert Plain.__dict__["nobody"] is found


def test_nested_targets():
    """A fault in an inner function is one that the outer function's policies meet."""
    inner = circuit_breaker("inner", failure_threshold=5)(lambda: "answer")
    outer = again()(lambda key: inner())
    with inject("inner", REFUSED, max_count=1) as one, inject(outer, REFUSED, max_count=1) as two:
        assert outer(1) == "answer"
    assert (one.fired, two.fired) == (1, 1)


# By path


class Base:
    def inherited(self, key):
        return self, key


class Plain(Base):
    attribute = 5

    def own(self, key):
        return self, key

    @classmethod
    def of_class(cls, key):
        return cls, key

    @staticmethod
    def nobody(key):
        return key

    async def aget(self, key):
        return self, key


instance = Plain()


def plain(key):
    """A function to be found by its path."""
    return key


class _Module:
    """Holds what a test wants to be found by path."""


PLACE = {"module": _Module()}


def _place(function):
    """Make a path for a function."""
    globals()["placed"] = PLACE["module"]
    PLACE["module"].__dict__.clear()
    PLACE["module"].items = function
    return f"{__name__}:placed.items"


@pytest.mark.parametrize("path", ["own", "inherited", "of_class", "nobody", "aget"])
def test_path_of_a_method(path):
    """A method of each kind meets faults by its path, keeps its binding, and is put back as it was."""
    before, own = dict(vars(Plain)), path in vars(Plain)
    one = Plain()

    def call():
        result = getattr(one, path)(1)
        return run(result) if path == "aget" else result

    expected = call()
    with inject(f"{__name__}:Plain.{path}", REFUSED, max_count=1) as injection:
        with pytest.raises(ConnectionRefusedError):
            call()
        assert call() == expected
    assert (injection.calls, injection.fired) == (2, 1)
    assert call() == expected
    assert dict(vars(Plain)) == before
    assert (path in vars(Plain)) is own


def test_inherited_method_of_others_is_untouched():
    """A fault in a method that a class has inherited is in that class only."""
    with inject(f"{__name__}:Plain.inherited", REFUSED):
        assert Base().inherited(1)[1] == 1
        with pytest.raises(ConnectionRefusedError):
            Plain().inherited(1)


def test_method_of_an_instance():
    """A method of one object meets faults, bound to that object; others do not, and nothing is left in it."""
    with inject(f"{__name__}:instance.own", REFUSED, max_count=1):
        with pytest.raises(ConnectionRefusedError):
            instance.own(1)
        assert instance.own(1) == (instance, 1)
        assert Plain().own(1)[1] == 1
    assert vars(instance) == {}
    assert instance.own(1) == (instance, 1)


@pytest.mark.parametrize("form", ["colon", "dots", "itself"])
def test_path_of_a_function(form):
    """A function is named by its path with or without a colon, or is given itself."""
    target = {"colon": f"{__name__}:plain", "dots": f"{__name__}.plain", "itself": plain}[form]
    before = plain
    with inject(target, REFUSED), pytest.raises(ConnectionRefusedError):
        globals()["plain"](1)
    assert globals()["plain"] is before


def test_path_of_a_decorated_function():
    """A path that leads to a decorated method means the inside of its policies."""
    with inject(f"{__name__}:Client.of_class", REFUSED, max_count=2) as injection:
        assert Client.of_class(1) == (Client, 1)
    assert injection.fired == 2


def test_stand_in_looks_like_the_function():
    """What stands in the place of a function has its name, its documentation and its signature."""
    import inspect

    before = inspect.signature(plain)
    with inject(plain, REFUSED, rate=0):
        stand_in = globals()["plain"]
        assert (stand_in.__name__, stand_in.__doc__) == ("plain", "A function to be found by its path.")
        assert inspect.signature(stand_in) == before
        assert stand_in(1) == 1


def test_async_function_by_path_stays_one():
    """The stand-in of an async method is one by `inspect` too."""
    import inspect

    with inject(f"{__name__}:Plain.aget", REFUSED):
        assert inspect.iscoroutinefunction(Plain.aget)


def test_threads_begin_and_end_injections_of_one_path():
    """Threads that inject into one path at once put it back as it was."""
    before = Plain.__dict__["own"]
    one = Plain()

    def work():
        for _ in range(50):
            with inject(f"{__name__}:Plain.own", faults.CorruptResult(lambda result: result)):
                assert one.own(1) == (one, 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Plain.__dict__["own"] is before


# Bad input


@pytest.mark.parametrize(
    ("target", "kind", "match"),
    [
        ("nobody", UnknownNameError, "known: here"),
        ("no.such.module:thing", UnknownNameError, "cannot be found"),
        ("json:nothing", UnknownNameError, "cannot be found"),
        (f"{__name__}:Plain.attribute", ConfigurationError, "is a int, which cannot be called"),
        ("builtins:dict.get", ConfigurationError, "inject where it is called"),
        (5, TypeError, "target=5: must be a decorated function"),
    ],
)
def test_bad_target(target, kind, match):
    """A target that cannot be is told, with what could be, and changes nothing."""
    circuit_breaker("here")
    with pytest.raises(kind, match=match), inject(target, REFUSED):
        pass


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"fault": ConnectionError}, TypeError, "must be one of resilient.testing.faults"),
        ({"rate": 1.5}, ConfigurationError, "rate=1.5"),
        ({"rate": True}, ConfigurationError, "rate=True"),
        ({"timing": 3}, TypeError, "must be an InjectionTiming"),
        ({"during": 3}, ConfigurationError, "during=3: must be a pair"),
        ({"during": (3, 3)}, ConfigurationError, "must end after"),
        ({"during": (-1, 3)}, ConfigurationError, "during=-1"),
        ({"max_count": 0}, ConfigurationError, "max_count=0"),
    ],
)
def test_bad_option(options, kind, match):
    """An impossible option is refused when it is given, by name, value and remedy."""
    with pytest.raises(kind, match=match):
        inject("anything", **{"fault": REFUSED, **options})
