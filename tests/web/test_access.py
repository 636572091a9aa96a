"""Who may act: nobody without the token, and no other site's page in the name of who has it."""

import logging
import time

import pytest

from resilient import CircuitState, circuit_breaker
from resilient.web.messages import LONGEST_BODY

from .asking import TOKEN, WRONG, act, body, cookie, get, header, hidden, post, sign_in, text

FIELDS = {"kind": "circuit_breaker", "name": "payments"}


@pytest.fixture(autouse=True)
def breaker():
    return circuit_breaker("payments")


def is_untouched(breaker):
    return breaker.state is CircuitState.CLOSED


@pytest.mark.parametrize("action", ["isolate", "reset", "configure", "approve", "cancel"])
def test_without_a_token_nobody_acts(app, action):
    """An app without a token refuses every action, by 403, whatever is sent."""
    assert act(app, action, FIELDS).status == 403
    assert post(app, f"/actions/{action}", FIELDS).status == 403
    assert get(app, "/session").status == 403


def test_bearer_acts(acting, breaker):
    """The token as `Authorization: Bearer` is enough, and needs no other field."""
    answer = act(acting, "isolate", FIELDS)
    assert (answer.status, body(answer)["done"]) == (200, "isolate")
    assert breaker.state is CircuitState.ISOLATED


@pytest.mark.parametrize(
    "given",
    ["Bearer wrong", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer ü\ud800"],
)
def test_wrong_tokens_are_refused(acting, breaker, given):
    """401 for anything but the token itself."""
    assert post(acting, "/actions/isolate", FIELDS, authorization=given).status == 401
    assert is_untouched(breaker)


def test_get_never_acts(acting, breaker):
    """An action by GET is 405, also with the token."""
    answer = get(acting, "/actions/isolate", "kind=circuit_breaker&name=payments", authorization=f"Bearer {TOKEN}")
    assert (answer.status, header(answer, "Allow")) == (405, "POST")
    assert is_untouched(breaker)


def test_token_in_the_address_is_refused(acting, breaker):
    """A token in the query lets nobody act, and is not repeated."""
    answer = post(acting, "/actions/isolate", FIELDS, query=f"token={TOKEN}", accept="application/json")
    assert answer.status == 400
    assert TOKEN not in text(answer)
    assert is_untouched(breaker)


def test_token_as_a_field_of_an_action_does_not_count(acting, breaker):
    """Only the form to sign in with takes the token."""
    assert post(acting, "/actions/isolate", {**FIELDS, "token": TOKEN}).status == 401
    assert is_untouched(breaker)


def test_forms_of_a_session_act(acting, breaker):
    """Who has signed in acts by the page's own form, and is led back to the page of the policy."""
    session, field = sign_in(acting)
    answer = post(acting, "/actions/isolate", {**FIELDS, "csrf": field}, cookie=session)
    assert answer.status == 303
    assert header(answer, "Location") == "/policy?kind=circuit_breaker&name=payments&done=isolate"
    assert breaker.state is CircuitState.ISOLATED


@pytest.mark.parametrize("field", [None, "", "0" * 64, "ü"])
def test_forms_without_the_field_are_refused(acting, breaker, field):
    """A session alone is not enough: 403 without its anti-CSRF field."""
    session, _ = sign_in(acting)
    fields = FIELDS if field is None else {**FIELDS, "csrf": field}
    assert post(acting, "/actions/isolate", fields, cookie=session).status == 403
    assert is_untouched(breaker)


def test_fields_belong_to_their_session(acting, breaker):
    """The field of one session is worth nothing in another."""
    session, _ = sign_in(acting)
    _, other = sign_in(acting)
    assert post(acting, "/actions/isolate", {**FIELDS, "csrf": other}, cookie=session).status == 403
    assert is_untouched(breaker)


def test_field_without_a_session_is_refused(acting):
    """The anti-CSRF field alone is not enough: 401."""
    _, field = sign_in(acting)
    assert post(acting, "/actions/isolate", {**FIELDS, "csrf": field}).status == 401


def test_cookie_of_the_form_to_sign_in_is_no_session(acting):
    """The cookie that everybody gets, under the name of a session, does not become one."""
    guest = cookie(get(acting, "/session"))
    forged = guest.replace("resilient_form_", "resilient_status_")
    assert post(acting, "/actions/isolate", FIELDS, cookie=forged).status == 401


def test_sessions_end(acting, monkeypatch):
    """After eight hours the cookie is worth nothing; a later date in it makes it worthless at once."""
    session, field = sign_in(acting)
    name, _, value = session.partition("=")
    until, nonce, signature = value.split(".")
    later = f"{name}={int(until) + 1000}.{nonce}.{signature}"
    assert post(acting, "/actions/isolate", {**FIELDS, "csrf": field}, cookie=later).status == 401
    real = time.time
    monkeypatch.setattr(acting.access, "_calendar", lambda: real() + 8 * 3600 + 1)
    assert post(acting, "/actions/isolate", {**FIELDS, "csrf": field}, cookie=session).status == 401


def test_sessions_are_known_to_every_process_of_the_token(acting, make):
    """Another app of the same token takes the session, one of another token does not."""
    session, field = sign_in(acting)
    fields = {**FIELDS, "csrf": field}
    assert post(make(token=TOKEN), "/actions/isolate", fields, cookie=session).status == 303
    assert post(make(token=TOKEN + "2"), "/actions/isolate", fields, cookie=session).status == 401


def test_cookies_are_kept_from_scripts_and_other_sites(acting):
    """HttpOnly, SameSite=Strict, for this page alone, and Secure where it comes by https."""
    form = get(acting, "/session", prefix="/status")
    (plain,) = form.cookies
    assert all(word in plain for word in ("HttpOnly", "SameSite=Strict", "Path=/status/", "Max-Age=28800"))
    assert "Secure" not in plain
    fields = {"csrf": hidden(form), "token": TOKEN}
    done = post(acting, "/session", fields, prefix="/status", secure=True, cookie=cookie(form))
    assert done.cookies[0].endswith("; Secure")


def test_signing_out_takes_the_cookie_away(acting):
    """Signing out, by a form of the session, ends the cookie."""
    session, field = sign_in(acting)
    assert post(acting, "/session/end", {}, cookie=session).status == 403
    answer = post(acting, "/session/end", {"csrf": field}, cookie=session)
    assert answer.status == 303
    assert "Max-Age=0" in answer.cookies[0]


def test_signing_in_needs_the_form_of_the_page(acting):
    """Another site cannot sign somebody in: the form's field and cookie belong together."""
    form = get(acting, "/session")
    fields = {"csrf": hidden(form), "token": TOKEN}
    assert post(acting, "/session", fields).status == 403
    assert post(acting, "/session", {"token": TOKEN}, cookie=cookie(form)).status == 403


def test_wrong_token_in_the_form_is_said_and_logged(acting, told):
    """401, the form again, no session, and a warning that does not have what was typed."""
    form = get(acting, "/session")
    answer = post(acting, "/session", {"csrf": hidden(form), "token": "typed-by-mistake"}, cookie=cookie(form))
    assert answer.status == 401
    assert "Not signed in" in text(answer)
    assert not any("resilient_status" in one for one in answer.cookies)
    (record,) = told
    assert (record.event, record.levelno, record.peer) == ("web.sign_in_refused", logging.WARNING, "192.0.2.7")
    assert "typed-by-mistake" not in str(vars(record))


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"origin": "https://evil.example", "host": "status.example"},
        {"origin": "null", "host": "status.example"},
        {"origin": "http://[broken", "host": "status.example"},
    ],
)
def test_pages_of_other_sites_cannot_act(acting, breaker, headers):
    """403 for what a browser says comes from elsewhere, even with session and field."""
    session, field = sign_in(acting)
    answer = post(acting, "/actions/isolate", {**FIELDS, "csrf": field}, cookie=session, **headers)
    assert answer.status == 403
    assert is_untouched(breaker)


@pytest.mark.parametrize(
    "headers", [{"sec_fetch_site": "same-origin"}, {"origin": "https://Status.example", "host": "status.example"}]
)
def test_the_page_itself_can_act(acting, headers):
    """What a browser says comes from here is let through."""
    session, field = sign_in(acting)
    assert post(acting, "/actions/isolate", {**FIELDS, "csrf": field}, cookie=session, **headers).status == 303


def test_guessing_is_stopped(acting, clock):
    """After ten wrong tokens in a minute none is looked at, not even the right one; a minute later they are."""
    assert {act(acting, "isolate", FIELDS, token=WRONG).status for _ in range(10)} == {401}
    answer = act(acting, "isolate", FIELDS)
    assert (answer.status, header(answer, "Retry-After")) == (429, "60")
    clock.now += 61
    assert act(acting, "isolate", FIELDS).status == 200


def test_sessions_go_on_while_somebody_guesses(acting):
    """Who has signed in is not locked out by who guesses."""
    session, field = sign_in(acting)
    for _ in range(12):
        act(acting, "isolate", FIELDS, token=WRONG)
    assert post(acting, "/actions/isolate", {**FIELDS, "csrf": field}, cookie=session).status == 303


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"kind=circuit_breaker&name=%FF%FE", 400),
        (b"kind=circuit_breaker&name=\xff", 400),
        (b"kind&name", 400),
        (b"name=payments&name=other&kind=circuit_breaker", 400),
        (b"a=" + b"x" * LONGEST_BODY, 413),
        (b"&".join(b"f%d=1" % n for n in range(200)), 400),
        (b"", 400),
    ],
)
def test_malformed_forms_are_refused(acting, breaker, raw, status):
    """A form that cannot be read, is too long, or says a thing twice changes nothing."""
    answer = post(acting, "/actions/isolate", body=raw, authorization=f"Bearer {TOKEN}")
    assert answer.status == status
    assert body(answer)["error"]
    assert is_untouched(breaker)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
def test_other_content_types_are_refused(acting, kind):
    """415: a form of another type could be sent by other sites without asking."""
    assert act(acting, "isolate", FIELDS, content_type=kind).status == 415


def test_malformed_cookies_are_no_session(acting):
    """Whatever stands in the cookie header, the page is shown, signed out."""
    name = cookie(get(acting, "/session")).partition("=")[0].replace("form", "status")
    for value in ("a.b.c", "....", "", "9" * 5000 + ".a.b", "\x00", '"'):
        answer = get(acting, cookie=f"{name}={value}")
        assert answer.status == 200
        assert "Sign in with the token" in text(answer)


@pytest.mark.parametrize("before", ['prefs={"a": 1, "b": "c d"}', "a b=c d", "flag", "x@y=1", "name=\xe9", "a=1, b=2"])
def test_odd_cookies_of_other_pages_do_not_hide_the_session(acting, before):
    """Other applications of the host set what they like; who has signed in stays so, wherever it stands."""
    session, field = sign_in(acting)
    for both in (f"{before}; {session}", f"{session}; {before}"):
        assert post(acting, "/actions/isolate", {**FIELDS, "csrf": field}, cookie=both).status == 303


def test_good_cookie_counts_beside_a_bad_one(acting):
    """Of two cookies of the same name, as of two prefixes, the one that is good is found."""
    session, field = sign_in(acting)
    name = session.partition("=")[0]
    for both in (f"{name}=1.2.3; {session}", f"{session}; {name}=1.2.3"):
        assert post(acting, "/actions/isolate", {**FIELDS, "csrf": field}, cookie=both).status == 303


def test_password_of_a_proxy_is_none_of_our_business(acting, breaker):
    """Behind a proxy that asks for a password, the page and its forms work as without; alone it lets nobody act."""
    basic = "Basic b3BlcmF0b3I6c2VjcmV0"
    session, field = sign_in(acting)
    assert post(acting, "/actions/isolate", FIELDS, authorization=basic).status == 401
    assert is_untouched(breaker)
    answer = post(acting, "/actions/isolate", {**FIELDS, "csrf": field}, cookie=session, authorization=basic)
    assert answer.status == 303
    assert get(acting, "/nothing", authorization=basic).kind.startswith("text/html")
