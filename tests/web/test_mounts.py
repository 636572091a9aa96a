"""Mounted into other applications, everything stays under its prefix, and works."""

import json
import re
import threading
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
import flask
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from resilient import circuit_breaker

from .asking import TOKEN
from .serving import fetch, streaming, uvicorn_of

FORM = "application/x-www-form-urlencoded"


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        """Say nothing."""


class wsgi_of:
    """Serve a WSGI application by wsgiref; gives its address."""

    def __init__(self, application):
        self.server = make_server("127.0.0.1", 0, application, handler_class=Quiet)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}/"

    def __exit__(self, *error):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def configure_django():
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=(), SECRET_KEY="of a test", DEBUG=False)  # noqa: S106
        django.setup()


def in_fastapi(app):
    outer = FastAPI()
    outer.mount("/status", app)
    return uvicorn_of(outer)


def in_starlette(app):
    return uvicorn_of(Starlette(routes=[Mount("/status", app=app)]))


def in_starlette_twice(app):
    inner = Starlette(routes=[Mount("/status", app=app)])
    return uvicorn_of(Starlette(routes=[Mount("/ops", app=inner)]))


def in_flask(app):
    outer = flask.Flask("shop")
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/status": app})
    return wsgi_of(outer)


def in_django_wsgi(app):
    configure_django()
    outer = get_wsgi_application()

    def application(environ, start_response):
        head, path = environ["PATH_INFO"][:7], environ["PATH_INFO"][7:]
        if head == "/status" and path[:1] in ("", "/"):
            return app({**environ, "SCRIPT_NAME": head, "PATH_INFO": path}, start_response)
        return outer(environ, start_response)

    return wsgi_of(application)


def in_django_asgi(app):
    configure_django()
    outer = get_asgi_application()

    async def application(scope, receive, send):
        if scope["type"] == "http" and f"{scope['path']}/".startswith("/status/"):
            return await app({**scope, "root_path": "/status"}, receive, send)
        return await outer(scope, receive, send)

    return uvicorn_of(application, lifespan="off")


def behind_a_prefix(app):
    """Uvicorn itself is told the prefix, as behind a proxy that strips it."""
    return uvicorn_of(app, root_path="/status")


MOUNTS = {
    "/status/": [in_fastapi, in_starlette, in_flask, in_django_wsgi, in_django_asgi],
    "/ops/status/": [in_starlette_twice],
}
ALL = [(mount, prefix) for prefix, mounts in MOUNTS.items() for mount in mounts]


@pytest.mark.parametrize(("mount", "prefix"), ALL, ids=[mount.__name__ for mount, _ in ALL])
def test_everything_works_under_a_prefix(acting, mount, prefix):
    """The page without its slash leads to it; links, sign-in, actions and their way back lie under the prefix."""
    breaker = circuit_breaker("payments")
    with mount(acting) as url:
        root = url.rstrip("/")
        status, headers, _ = fetch(f"{root}{prefix.rstrip('/')}")
        assert status in (303, 307)
        assert headers.get("Location", headers.get("location")).endswith(prefix)
        status, _, page = fetch(root + prefix)
        assert status == 200
        links = re.findall(r'(?:href|action)="([^"]+)"', page.decode())
        assert {link for link in links if not link.startswith(("#", prefix))} == set()
        link = next(one for one in links if "policy?" in one).replace("&amp;", "&")
        assert fetch(root + link)[0] == 200
        form = fetch(f"{root}{prefix}session")
        cookie = {key.lower(): value for key, value in form[1].items()}["set-cookie"]
        assert f"Path={prefix};" in cookie
        csrf = re.search(rb'name="csrf" value="(\w+)"', form[2])[1].decode()
        body = f"csrf={csrf}&token={TOKEN}"
        status, headers, _ = fetch(f"{root}{prefix}session", "POST", body, Content_Type=FORM,
                                   Cookie=cookie.partition(";")[0])  # fmt: skip
        headers = {key.lower(): value for key, value in headers.items()}
        assert (status, headers["location"]) == (303, prefix)
        session = headers["set-cookie"].partition(";")[0]
        page = fetch(root + link, Cookie=session)[2].decode()
        csrf = re.search(r'name="csrf" value="(\w+)"', page)[1]
        body = f"csrf={csrf}&kind=circuit_breaker&name=payments"
        status, headers, _ = fetch(f"{root}{prefix}actions/isolate", "POST", body, Content_Type=FORM, Cookie=session)
        location = headers.get("Location", headers.get("location"))
        assert (status, location.startswith(f"{prefix}policy?")) == (303, True)
        assert breaker.state.value == "isolated"
        assert (
            json.loads(fetch(f"{root}{prefix}api/snapshot")[2])["circuit_breakers"]["payments"]["state"] == "isolated"
        )
        assert fetch(f"{root}{prefix}healthz")[0] == 200


@pytest.mark.parametrize("mount", [in_fastapi, in_django_asgi])
def test_streams_work_under_a_prefix(app, mount):
    """A mounted stream tells of changes too."""
    breaker = circuit_breaker("payments")
    with mount(app) as url, streaming(f"{url}status/api/events?snapshot=0") as read_until:
        read_until(b"hello")
        breaker.isolate()
        read_until(b'"new":"isolated"')


def test_prefix_that_a_proxy_strips(app):
    """Where the server is told of the prefix, links have it."""
    circuit_breaker("payments")
    with behind_a_prefix(app) as url:
        status, _, page = fetch(url)
        assert status == 200
        assert b'href="/status/policy?' in page
