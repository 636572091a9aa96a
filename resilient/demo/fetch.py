"""Two plain HTTP GETs, one for threads and one for asyncio; every failure leaves as `Unavailable`."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.error
import urllib.request
from typing import Any

# Without this, a proxy named in the environment would be asked for a page on the loopback interface.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Unavailable(ConnectionError):
    """The service gave no usable answer; the message says in a few words what happened instead."""


def fetch(port: int, path: str, patience: float) -> Any:
    """The JSON document at `path`, waiting at most `patience` seconds for each answer of the socket."""
    try:
        with _OPENER.open(f"http://127.0.0.1:{port}{path}", timeout=patience) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        raise Unavailable(f"answered {error.code}") from None
    except urllib.error.URLError as error:
        raise Unavailable(_in_words(error.reason)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(_in_words(error)) from None


async def afetch(port: int, path: str) -> Any:
    """The JSON document at `path`; how long that may take is the caller's business."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            status, body = await _read_answer(reader)
        finally:
            writer.close()
        if status != 200:
            raise Unavailable(f"answered {status}")
        return json.loads(body)
    except Unavailable:
        raise
    except (OSError, EOFError, ValueError) as error:
        raise Unavailable(_in_words(error)) from None


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status, *headers = head.splitlines()
    length = 0
    for header in headers:
        name, _, value = header.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return int(status.split()[1]), await reader.readexactly(length)


def _in_words(error: object) -> str:
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return "no answer in time"
        case ConnectionError() | EOFError() | http.client.HTTPException():
            return "connection lost"
        case _:
            return str(error)
