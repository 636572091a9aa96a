"""The page: readable by machines that read aloud, and harmless whatever the names."""

import re

import pytest

from resilient import CircuitState, bulkhead, circuit_breaker, degrade, retry, timeout

from .asking import Elements, get, header, hidden, post, sign_in, text

NASTY = [
    "<script>alert(1)</script>",
    "\"' onload=alert(1) x='",
    "</script><svg onload=alert(1)>",
    "a\nb\r\nSet-Cookie: c=d",
    "&amp;&#60;b&gt;",
    "n" * 300,
    "Übermäßig 支付 🙂",
    "half \ud800 and \u202eturned round",
    "{{ 7*7 }} ${7*7} %s",
    "a/b?c=d#e&f=g",
]


@pytest.mark.parametrize("name", NASTY)
def test_names_are_texts(acting, name):
    """No name becomes markup, on the list, on its own page, in what is searched for, and in what is refused."""
    breaker = circuit_breaker(name)
    breaker.isolate()
    session, _ = sign_in(acting)
    harmless = circuit_breaker("harmless")
    listed = Elements(text(get(acting, cookie=session)))
    links = [one["href"] for one in listed.all("a") if one.get("href", "").startswith("/policy?")]
    link = next(one for one in links if "harmless" not in one)
    own = get(acting, "/policy", link.partition("?")[2], cookie=session)
    plain = get(acting, "/policy", "kind=circuit_breaker&name=harmless", cookie=session)
    assert own.status == 200
    assert harmless.name == "harmless"
    searched = get(acting, query="q=" + link.rpartition("name=")[2])
    refused = get(acting, "/policy", "kind=bulkhead&name=" + link.rpartition("name=")[2])
    assert refused.status == 404
    for page in (own, plain, searched, refused):
        elements = Elements(text(page))
        assert len(elements.all("script")) == (0 if page is refused else 1)
        assert not [at for _, attributes in elements.found for at in attributes if at.startswith("on")]
        assert not elements.all("iframe") + elements.all("base")
    assert [tag for tag, _ in Elements(text(own)).found if tag == "form"] == [
        tag for tag, _ in Elements(text(plain)).found if tag == "form"
    ]


@pytest.mark.parametrize("name", NASTY)
def test_forms_act_whatever_the_name(acting, name):
    """The form on the page of a policy, as a browser sends it, isolates that policy, and leads back to its page."""
    breaker = circuit_breaker(name)
    session, _ = sign_in(acting)
    listed = Elements(text(get(acting, cookie=session)))
    link = next(one["href"] for one in listed.all("a") if one.get("href", "").startswith("/policy?"))
    page = Elements(text(get(acting, "/policy", link.partition("?")[2], cookie=session)))
    fields = {one["name"]: one["value"] for one in page.all("input")[:3] if one["type"] == "hidden"}
    done = post(acting, "/actions/isolate", fields, cookie=session)
    assert done.status == 303
    assert breaker.state is CircuitState.ISOLATED
    assert header(done, "Location") == f"{link}&done=isolate"


def test_links_lie_under_the_prefix(acting):
    """Mounted anywhere, every link, form and the script's base lead there."""
    for number in range(150):
        circuit_breaker(f"b{number}")
    page = get(acting, prefix="/ops/status", query="page=1")
    elements = Elements(text(page))
    places = [one["href"] for one in elements.all("a")] + [one["action"] for one in elements.all("form")]
    assert len(places) > 100
    assert all(place.startswith(("/ops/status/", "#")) for place in places)
    assert elements.all("body")[0]["data-base"] == "/ops/status/"


def test_page_loads_nothing_from_elsewhere(app):
    """No address but our own and those of SVG's names is in the page."""
    assert not re.findall(r"https?://[^\s\"'<]+", text(get(app)))
    elements = Elements(text(get(app)))
    assert not [one for tag in ("img", "link", "iframe", "object", "embed") for one in elements.all(tag)]


def test_policy_lets_only_this_page_run(app):
    """Style and script carry the nonce of the header, and nothing has a style or script attribute."""
    answer = get(app)
    (nonce,) = set(re.findall(r"'nonce-([\w-]+)'", header(answer, "Content-Security-Policy")))
    elements = Elements(text(answer))
    assert [one["nonce"] for one in elements.all("script") + elements.all("style")] == [nonce, nonce]
    assert not [one for _, attributes in elements.found for one in attributes if one == "style" or one.startswith("on")]


def test_every_state_has_word_and_shape(app):
    """A state is never told by colour alone."""
    circuit_breaker("a").isolate()
    page = text(get(app, query="fragment=1"))
    badge = re.search(r'<span class="badge [^"]+">(.*?)</span>', page)[1]
    assert "#shape-diamond" in badge
    assert "Isolated" in badge


def test_page_can_be_read_aloud(acting):
    """Language, title, one h1, a skip link to the content, a caption and scopes in tables, a label for each input."""
    for policy in (
        circuit_breaker("a"),
        bulkhead("b"),
        retry(name="c"),
        timeout(1, name="d"),
        degrade(fallback=0, name="e"),
    ):
        policy.call(int)
    session, _ = sign_in(acting)
    queries = [
        ("/", ""),
        ("/session", ""),
        ("/policy", "kind=circuit_breaker&name=a"),
        ("/policy", "kind=retry&name=c"),
    ]
    for path, query in queries:
        page = text(get(acting, path, query, cookie=session))
        elements = Elements(page)
        assert elements.all("html")[0]["lang"] == "en"
        assert len(elements.all("h1")) == 1
        assert elements.all("title")
        assert elements.all("a")[0]["href"] == "#content"
        labelled = {one["for"] for one in elements.all("label")}
        inputs = [one for one in elements.all("input") + elements.all("select") if one.get("type") != "hidden"]
        assert {one["id"] for one in inputs} <= labelled
        ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert all(one.get("scope") for one in elements.all("th"))
        assert len(elements.all("caption")) == len(elements.all("table"))
        assert [one.get("aria-label") for one in elements.all("svg") if one.get("role") == "img"] != [None]


def test_page_works_without_its_script(app):
    """Without scripts the browser loads the page again by itself; the search is a form."""
    page = text(get(app))
    assert '<noscript><meta http-equiv="refresh" content="30"/></noscript>' in page
    assert Elements(page).all("form")[0]["method"] == "get"


def test_fragment_is_the_inner_part(app):
    """`?fragment=1` is what lies within the element that the script fills."""
    circuit_breaker("payments")
    whole, part = text(get(app)), text(get(app, query="fragment=1"))
    assert not Elements(part).all("html")
    assert part.partition("As of")[0] in whole


def test_searching_finds_names_kinds_and_states(app):
    """Words are looked for in name, kind and state, in any case; what is not found is said."""
    circuit_breaker("payments-eu").isolate()
    circuit_breaker("payments-us")
    retry(name="payments-retry")

    def found(query):
        return set(
            re.findall(r"name=(payments-\w+)", text(get(app, query=f"fragment=1&q={query}")).partition("Latest")[0])
        )

    assert found("PAYMENTS") == {"payments-eu", "payments-us", "payments-retry"}
    assert found("circuit+us") == {"payments-us"}
    assert found("isolated") == {"payments-eu"}
    assert "Nothing has “nowhere”" in text(get(app, query="q=nowhere"))


def test_empty_registry_says_so(app):
    """With no policies the page says what to do."""
    page = text(get(app))
    assert "No policy is registered yet." in page
    assert "decorate a function" in page


def test_what_was_done_is_said_in_words_of_ours(app):
    """`done` shows a sentence of ours, and nothing for any other word."""
    assert "The breaker is isolated." in text(get(app, query="done=isolate"))
    assert "evil" not in text(get(app, query="done=evil"))


def test_page_of_a_policy_has_its_numbers_and_options(acting):
    """Numbers, options and latest changes, and forms only for who has signed in."""
    circuit_breaker("payments", failure_threshold=7).isolate()
    query = "kind=circuit_breaker&name=payments"
    page = text(get(acting, "/policy", query))
    assert "<dt>failure threshold</dt><dd>7</dd>" in page
    assert "Closed</span> to " in page
    assert "actions/isolate" not in page
    session, _ = sign_in(acting)
    signed = get(acting, "/policy", query, cookie=session)
    assert "actions/isolate" in text(signed)
    assert hidden(signed)


def test_options_that_hold_secrets_are_not_shown(app):
    """A fallback's value is not on the page, nor in the snapshot."""
    degrade(fallback={"password": "hunter2"}, name="answers")
    query = "kind=degrade&name=answers"
    assert "hunter2" not in text(get(app, "/policy", query)) + text(get(app, "/api/snapshot"))
