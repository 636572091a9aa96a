"""What the app answers to which request, whoever serves it."""

import json
import math

import pytest

from resilient import (
    ConfigurationError,
    DegradationManager,
    bulkhead,
    circuit_breaker,
    degrade,
    registry,
    retry,
    timeout,
)
from resilient.web import status_app

from .asking import TOKEN, body, get, header, post, text


def fail():
    raise ConnectionError("down")


def test_snapshot_is_that_of_the_registry_and_more(app):
    """Its shelves are those of `registry.snapshot()`, and everything else stands beside them."""
    for policy in (
        circuit_breaker("a"),
        bulkhead("b"),
        retry(name="c"),
        timeout(1, name="d"),
        degrade(fallback=0, name="e"),
    ):
        policy.call(int)
    answer = body(get(app, "/api/snapshot"))
    shelves = registry.snapshot()
    assert {key: answer[key] for key in shelves} == json.loads(json.dumps(shelves))
    assert set(answer) - set(shelves) == {
        "degradation_managers", "executions", "transitions", "rates", "problems", "generated_at"
    }  # fmt: skip
    assert set(answer["rates"]["bulkheads"]) == {"b"}


def test_snapshot_has_the_latest_transitions(app):
    """A change of state is in the next snapshot, newest first, with its reason."""
    breaker = circuit_breaker("payments", failure_threshold=1)
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    breaker.isolate()
    first, second = body(get(app, "/api/snapshot"))["transitions"]
    assert (first["name"], first["old"], first["new"]) == ("payments", "open", "isolated")
    assert (second["old"], second["new"], second["reason"]) == ("closed", "open", "1 consecutive failures")


def test_snapshot_has_managers_with_their_services(app):
    """Managers of one name are told apart, and their services have their health."""
    one, other = DegradationManager(name="shop"), DegradationManager(name="shop")
    one.record("search", True)
    found = body(get(app, "/api/snapshot"))["degradation_managers"]
    assert {"shop", "shop#2"} <= set(found)
    assert any("search" in manager["services"] for manager in found.values())
    assert found["shop"]["mode"] == "normal"
    assert one is not other


def test_snapshot_is_json_whatever_the_numbers(app):
    """Infinite numbers and half characters do not make it something that is not JSON."""
    retry(name="half \ud800 character", max_delay=1)
    answer = get(app, "/api/snapshot")

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(answer.body, parse_constant=refuse)
    assert "half \ud800 character" in found["retries"]
    assert not any(isinstance(value, float) and math.isinf(value) for value in found["rates"]["retries"].values())


def test_healthz_is_always_well(app):
    """The process lives: 200, whatever is open."""
    circuit_breaker("payments").isolate()
    answer = get(app, "/healthz")
    assert (answer.status, body(answer)) == (200, {"status": "ok"})


@pytest.mark.parametrize("stop", ["isolate", "open"])
def test_readyz_fails_while_a_critical_breaker_stops_calls(make, stop):
    """503 while a critical breaker is open or isolated, 200 before and after; others do not matter."""
    app = make(critical=["payments"])
    breaker = circuit_breaker("payments", failure_threshold=1)
    circuit_breaker("other").isolate()
    assert get(app, "/readyz").status == 200
    if stop == "open":
        with pytest.raises(ConnectionError):
            breaker.call(fail)
    else:
        breaker.isolate()
    answer = get(app, "/readyz")
    assert (answer.status, body(answer)["critical"]) == (503, {"payments": "isolated" if stop == "isolate" else "open"})
    breaker.reset()
    assert get(app, "/readyz").status == 200


def test_readyz_says_which_names_it_does_not_know(make):
    """A critical breaker that nobody has made yet does not make it unready, but is named."""
    app = make(critical=("payments", "typo"))
    circuit_breaker("payments")
    answer = get(app, "/readyz")
    assert (answer.status, body(answer)["unknown"]) == (200, ["typo"])


@pytest.mark.parametrize("path", ["/", "/policy", "/session", "/api/snapshot", "/api/events", "/healthz", "/readyz"])
def test_other_methods_are_refused_with_those_that_work(acting, path):
    """405 and Allow."""
    circuit_breaker("a")
    answer = get(acting, path, "kind=circuit_breaker&name=a", method="DELETE")
    assert answer.status == 405
    assert "GET, HEAD" in header(answer, "Allow")


@pytest.mark.parametrize("path", ["/", "/api/snapshot", "/api/events", "/healthz", "/readyz"])
def test_head_is_answered_like_get(app, path):
    """HEAD has the status and the type of GET, and takes no place of a stream."""
    answer = get(app, path, method="HEAD")
    assert answer.status == 200
    assert app.feed.streams == 0


@pytest.mark.parametrize("path", ["/nothing", "//", "/actions/", "/actions/explode", "/static/../etc/passwd", "/api"])
def test_unknown_paths_are_not_found(acting, path):
    """404, by GET and by POST."""
    assert get(acting, path).status == 404
    assert post(acting, path).status == 404


def test_without_a_slash_leads_to_the_page(app):
    """`/status` leads to `/status/`; a prefix that looks like a host does not become one."""
    assert header(get(app, "", prefix="/status"), "Location") == "/status/"
    assert header(get(app, "", prefix="//evil.example"), "Location") == "/evil.example/"


def test_every_answer_has_the_headers_that_protect(acting):
    """No answer is kept, guessed at, framed, or read by other sites; pages run only their own script."""
    circuit_breaker("a")
    for path in ("/", "/policy", "/session", "/api/snapshot", "/healthz", "/readyz", "/nothing"):
        answer = get(acting, path, "kind=circuit_breaker&name=a")
        assert header(answer, "X-Content-Type-Options") == "nosniff"
        assert header(answer, "Cache-Control") == "no-store"
        assert header(answer, "Cross-Origin-Resource-Policy") == "same-origin"
        policy = header(answer, "Content-Security-Policy")
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_nonces_are_never_the_same(app):
    """Each page has a nonce of its own."""
    assert header(get(app), "Content-Security-Policy") != header(get(app), "Content-Security-Policy")


def test_headers_have_no_line_breaks(app):
    """What a prefix brings along does not become a header."""
    answer = get(app, "", prefix="/a\r\nSet-Cookie: b=c")
    assert all("\n" not in value and "\r" not in value for _, value in answer.all_headers())


def test_failures_are_answers(app, told, monkeypatch):
    """Something that breaks inside is a 500 without its text, and is logged with it."""

    def broken():
        raise RuntimeError("secret inside")

    monkeypatch.setattr(app.board, "rows", broken)
    answer = get(app)
    assert answer.status == 500
    assert "secret inside" not in text(answer)
    assert [record.event for record in told] == ["web.failed"]


def test_closed_app_says_so(app):
    """After `close` requests are answered by 503, and the registry is not listened to."""
    app.close()
    assert get(app).status == 503
    circuit_breaker("a").isolate()
    assert not app.board.transitions


def test_thousands_of_policies_are_one_page_of_a_hundred(app):
    """The page of 10,000 policies has 100 of them, comes soon, and begins with what is open."""
    for number in range(10_000):
        circuit_breaker(f"service-{number:05d}")
    circuit_breaker("service-07777").isolate()
    page = text(get(app))
    assert page.count("<tr>") == 101
    assert page.index("service-07777") < page.index("service-00000")
    assert "1 to 100 of 10,000" in page
    last = text(get(app, query="page=100"))
    assert "service-09999" in last
    assert text(get(app, query="q=service-0123&page=1")).count("<tr>") == 11


@pytest.mark.parametrize("page", ["0", "-1", "999999999999999999999", "²", "x", ""])
def test_impossible_pages_are_the_nearest_ones(app, page):
    """Whatever stands in `page`, something is shown."""
    circuit_breaker("only")
    assert "only" in text(get(app, query=f"page={page}"))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"token": ""}, ConfigurationError, "is empty"),
        ({"token": "with a space in between"}, ConfigurationError, "without spaces"),
        ({"token": "pässwörter-sind-lang"}, ConfigurationError, "ASCII"),
        ({"token": 12345678901234567890}, TypeError, "must be a string"),
        ({"critical": "payments"}, TypeError, "sequence of names"),
        ({"critical": 3}, TypeError, "sequence of names"),
        ({"critical": ["a", 3]}, TypeError, "3 is not a name"),
        ({"critical": [" "]}, ConfigurationError, "a name is empty"),
        ({"orchestrator": object()}, TypeError, "RecoveryOrchestrator"),
    ],
)
def test_bad_options_are_refused_at_once(options, error, words):
    """Each says what would be right; none shows the token."""
    with pytest.raises(error, match=words) as caught:
        status_app(registry, **options)
    if options.get("token"):
        assert str(options["token"]) not in str(caught.value)


def test_a_short_token_is_warned_of(caplog):
    """A token that can be guessed works, and the log says so without showing it."""
    app = status_app(registry, token="hunter2")  # noqa: S106 - a bad one on purpose
    app.close()
    (record,) = [one for one in caplog.records if one.event == "web.weak_token"]
    assert record.levelname == "WARNING"
    assert "7 characters" in record.getMessage()
    assert "hunter2" not in record.getMessage()


def test_registry_must_be_one():
    """A shelf, or a function, is not a registry."""
    with pytest.raises(TypeError, match=r"resilient\.registry"):
        status_app(registry.circuit_breakers)


def test_repr_does_not_show_the_token(acting):
    """Neither the app nor its parts show it."""
    assert TOKEN not in repr(acting)
    assert TOKEN not in repr(vars(acting))


def test_readyz_waits_for_no_subscriber(make, clock):
    """That an open period is over is seen, and told to nobody: a handler that hangs does not hang the probe."""
    app = make(critical=["payments"])
    breaker = circuit_breaker("payments", failure_threshold=1, recovery_timeout=30)
    with pytest.raises(ConnectionError):
        breaker.call(fail)
    heard = []
    with registry.subscribe(heard.append):
        assert get(app, "/readyz").status == 503
        clock.now += 30
        answer = get(app, "/readyz")
        assert (answer.status, body(answer)["critical"]) == (200, {"payments": "half_open"})
        assert heard == []
        assert breaker.state.value == "half_open"
        assert len(heard) == 1
