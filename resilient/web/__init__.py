"""The status page: every policy with its state and rates, live in a browser, and as JSON for programs.

from resilient import registry
from resilient.web import serve, status_app

with serve(status_app(registry)) as server:
    print(server.url)
    server.wait()

messages.py    requests, answers, streams          app.py         what is answered to what
access.py      token, sessions, anti-CSRF fields   operating.py   sign in, sign out, act
actions.py     the five actions, and their log     options.py     options of policies as text
counting.py    what counters of a policy say       history.py     the same over two minutes
board.py       all policies at a glance            feed.py        events for whoever watches
recoveries.py  executions of an orchestrator       picture.py     everything as JSON
html/          the page                            asgi.py, wsgi.py, server.py   the ways to it
"""

from resilient.web.app import StatusApp, status_app
from resilient.web.server import StatusServer, serve

__all__ = ["StatusApp", "StatusServer", "serve", "status_app"]
