"""Requests to an app without a server in between."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import urlencode

from resilient.web.messages import FORM, Request

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - of no use anywhere else
#: Long enough, and not the token.
WRONG = "-".join(["wrong", "token"] * 2)


def get(app, path="/", query="", method="GET", prefix="", **headers):
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return app.handle(Request(method, path, prefix, query, named, peer="192.0.2.7"))


def post(app, path, fields=(), *, body=None, query="", prefix="", secure=False, **headers):
    named = {"content-type": FORM, **{key.replace("_", "-"): value for key, value in headers.items()}}
    raw = urlencode(dict(fields)).encode() if body is None else body
    return app.handle(Request("POST", path, prefix, query, named, raw, "192.0.2.7", secure))


def act(app, action, fields=(), token=TOKEN, **headers):
    """An action of a program that has the token."""
    return post(app, f"/actions/{action}", fields, authorization=f"Bearer {token}", **headers)


def body(answer):
    return json.loads(answer.body)


def text(answer):
    return answer.body.decode()


def header(answer, name):
    return dict(answer.all_headers()).get(name)


def hidden(answer):
    """The anti-CSRF field of the first form of a page."""
    return re.search(r'name="csrf" value="([^"]+)"', text(answer))[1]


def cookie(answer):
    """What a browser sends back of the cookies of an answer."""
    return "; ".join(one.partition(";")[0] for one in answer.cookies)


def sign_in(app):
    """The cookie of a session that begins here, and its anti-CSRF field."""
    form = get(app, "/session")
    done = post(app, "/session", {"csrf": hidden(form), "token": TOKEN}, cookie=cookie(form))
    assert done.status == 303, text(done)
    session = cookie(done)
    return session, hidden(get(app, cookie=session))


class Elements(HTMLParser):
    """The elements of a page as a browser sees them: names, attributes, and the text in between."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.words = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]
