"""Samples, rates and the order of the page; no real time passes."""

import contextlib
import gc
import threading
import time
import weakref

import pytest

from resilient import ResilienceError, bulkhead, circuit_breaker, degrade, registry, retry, timeout
from resilient.web import board as boards
from resilient.web.board import Board
from resilient.web.history import KEPT, Times, Track
from resilient.web.html import parts
from resilient.web.html.sparkline import sparkline

from .asking import body, get


def fail():
    raise ConnectionError("down")


def attempt(policy, function, times):
    for _ in range(times):
        with contextlib.suppress(ConnectionError, ResilienceError):
            policy.call(function)


@pytest.fixture
def board(clock):
    made = Board(registry)
    yield made
    made.close()


def row(board, name):
    return next(one for one in board.rows() if one.name == name)


def test_rates_are_of_the_last_minute(board, clock):
    """Calls per second and the share of bad ones are exact for a scripted run."""
    breaker = circuit_breaker("a", failure_threshold=1000)
    board.look()
    for _ in range(10):
        attempt(breaker, int, 6)
        attempt(breaker, fail, 2)
        clock.now += 2
        board.look()
    rates = board.rates(row(board, "a"))
    assert (rates.calls_per_second, rates.bad_per_second, rates.bad_share, rates.seconds) == (4.0, 1.0, 0.25, 20.0)
    for _ in range(40):
        clock.now += 2
        board.look()
    assert board.rates(row(board, "a"))[:3] == (0.0, 0.0, None)


def test_rates_survive_a_reset(board, clock):
    """A reset makes counters fall, and no rate negative."""
    breaker = circuit_breaker("a", failure_threshold=1000)
    for _ in range(3):
        attempt(breaker, int, 10)
        board.look()
        clock.now += 2
    breaker.reset()
    attempt(breaker, int, 4)
    board.look()
    assert board.rates(row(board, "a")).calls_per_second == pytest.approx(4.0)
    assert min(calls for _, calls, _ in board.points(row(board, "a"))) >= 0


def test_first_look_knows_no_rates(board):
    """Nothing is said about rates before there are two samples."""
    circuit_breaker("a")
    assert board.rates(row(board, "a")) == (None, 0.0, None, 0.0)


@pytest.mark.parametrize(
    ("define", "spoil", "state"),
    [
        (lambda: retry(name="x", max_attempts=1), fail, "giving up"),
        (lambda: timeout(0, name="x"), int, "too slow"),
        (lambda: degrade(fallback=0, name="x"), fail, "degraded"),
    ],
)
def test_state_of_what_has_none_is_that_of_the_last_minute(board, clock, define, spoil, state):
    """Policies without a state are fine, unless calls have gone wrong during the last minute."""
    policy = define()
    board.look()
    assert row(board, "x").state == "fine"
    clock.now += 2
    attempt(policy, spoil, 1)
    assert row(board, "x").state == state
    for _ in range(31):
        clock.now += 2
        board.look()
    assert row(board, "x").state == "fine"


def test_what_is_cause_for_concern_comes_first(board):
    """Open and isolated, then half-open and full, then disabled, then the rest by name."""
    for name in ("z", "y", "a"):
        circuit_breaker(name)
    circuit_breaker("open", failure_threshold=1)
    attempt(registry.circuit_breakers["open"], fail, 1)
    circuit_breaker("half", failure_threshold=1, recovery_timeout=0)
    attempt(registry.circuit_breakers["half"], fail, 1)
    circuit_breaker("off").disable()
    pool = bulkhead("pool", max_concurrent=1)
    with pool:
        found = [(one.name, one.state) for one in board.rows()]
    assert found == [
        ("open", "open"), ("half", "half_open"), ("pool", "full"), ("off", "disabled"),
        ("a", "closed"), ("y", "closed"), ("z", "closed"),
    ]  # fmt: skip


def test_rows_are_kept_for_a_moment_only(board, clock, monkeypatch):
    """Two requests at once are one look; a change of state, or half a second, makes another."""
    breaker = circuit_breaker("a")
    looks = []
    real = board._counts
    monkeypatch.setattr(board, "_counts", lambda: looks.append(1) or real())
    board.rows()
    board.rows()
    assert len(looks) == 1
    breaker.isolate()
    assert row(board, "a").state == "isolated"
    assert len(looks) == 2
    clock.now += 60
    board.rows()
    assert len(looks) == 3


def test_memory_of_a_track_is_bounded():
    """However long it runs, a track has two minutes' numbers, and right ones."""
    times = Times()
    track = Track(times.add(0.0), 0, 0)
    for number in range(1, 1000):
        times.add(number * 2.0)
        track.add(times.number, number * 4, number, times.first)
    assert len(track._numbers) <= 3 * (KEPT + 2)
    assert track.rates(times)[:3] == (2.0, 0.5, 0.25)
    assert {(calls, bad) for _, calls, bad in track.points(times)} == {(2.0, 0.5)}


def test_quiet_policies_take_next_to_no_memory():
    """A policy that nobody calls has one triple, however many samples are taken."""
    times = Times()
    track = Track(times.add(0.0), 5, 1)
    for number in range(1, 500):
        times.add(number * 2.0)
        track.add(times.number, 5, 1, times.first)
    assert len(track._numbers) == 3


def test_sampling_begins_with_a_request_and_ends_without(app, monkeypatch):
    """A thread takes samples while somebody asks; when nobody does for a minute, it ends, and begins anew."""
    monkeypatch.setattr(boards, "INTERVAL", 0.01)
    assert not app.board.sampling
    get(app)
    assert app.board.sampling
    app.board._asked -= boards.PATIENCE
    app.board._thread.join(5)
    assert not app.board.sampling
    get(app, "/api/snapshot")
    assert app.board.sampling


def test_closing_ends_the_sampling(app):
    """`close` ends the thread at once, although its pause is not over."""
    get(app)
    thread = app.board._thread
    app.close()
    thread.join(1)
    assert not thread.is_alive()


def test_forgotten_board_leaves_nothing_behind():
    """A board that nobody has any more ends its thread, and is not subscribed."""
    board = Board(registry)
    board.rows()
    thread, reference = board._thread, weakref.ref(board)
    del board
    gc.collect()
    thread.join(1)
    assert reference() is None
    assert not thread.is_alive()


def test_unnamed_policies_are_not_kept_alive(board):
    """A function that has gone takes its policy with it, although the page has shown it."""

    @retry(max_attempts=2)
    def fetch():
        return 1

    assert len(board.rows()) == 1
    del fetch
    gc.collect()
    assert not registry.retries
    board.outdate()
    assert board.rows() == []


def test_look_without_news_keeps_the_order(clock, monkeypatch):
    """Looking again at thousands of policies of which none has changed its state does not sort them anew."""
    for number in range(3_000):
        circuit_breaker(f"b-{number}")
        retry(name=f"r-{number}")
    board = Board(registry)
    board.look()
    rows = board.rows()
    clock.now += 2
    board.look()
    assert board.rows() is rows
    registry.circuit_breakers["b-7"].isolate()
    clock.now += 2
    board.look()
    assert board.rows() is not rows
    assert board.rows()[0].name == "b-7"
    board.close()


def test_handlers_that_hang_do_not_stop_other_requests(app):
    """While a handler of somebody's hangs in one request, the next one is answered."""
    breaker = circuit_breaker("a", failure_threshold=1, recovery_timeout=0.01)
    attempt(breaker, fail, 1)
    hanging, release = threading.Event(), threading.Event()

    def hang(event):
        hanging.set()
        release.wait(10)

    with registry.subscribe(hang):
        time.sleep(0.02)
        first = threading.Thread(target=get, args=(app,))
        first.start()
        assert hanging.wait(5)
        assert get(app).status == 200
        assert body(get(app, "/healthz")) == {"status": "ok"}
        release.set()
        first.join(5)


def test_sparkline_says_what_it_draws():
    """The drawing has its text, an area for calls and one for bad ones, and no more where there was nothing."""
    busy = str(sparkline([(-4.0, 2.0, 0.0), (-2.0, 4.0, 1.0), (0.0, 1.0, 0.0)]))
    assert "at most 4 per second" in busy
    assert busy.count("<path") == 3
    quiet = str(sparkline([(-2.0, 0.0, 0.0), (0.0, 0.0, 0.0)]))
    assert "none" in quiet
    assert quiet.count("<path") == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, parts.NOTHING), (0.0, "0 %"), (0.001, "<1 %"), (0.5, "50 %"), (0.999, ">99 %"), (1.0, "100 %")],
)  # fmt: skip
def test_only_all_is_all(value, shown):
    """Only all is 100 %, and only none is 0 %."""
    assert parts.share(value) == shown


def test_slow_look_does_not_hide_a_newer_one(board, clock, monkeypatch):
    """Where one thread has looked before a change, and comes to its end after another's look, the change stays."""
    breaker = circuit_breaker("a")
    board.rows()
    real = board._counts

    def slow():
        found = list(real())
        monkeypatch.setattr(board, "_counts", real)
        breaker.isolate()
        assert row(board, "a").state == "isolated"
        return found

    monkeypatch.setattr(board, "_counts", slow)
    board.look()
    assert row(board, "a").state == "isolated"
