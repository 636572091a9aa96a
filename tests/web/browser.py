"""A real headless Chromium, driven by its own protocol: open a page, look, type, click, take a picture."""

import asyncio
import base64
import contextlib
import json
import os
import re
import shutil

import aiohttp
import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")


def program():
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        if os.environ.get("RESILIENT_REQUIRE_SERVERS"):
            pytest.fail("Chromium is not installed, and RESILIENT_REQUIRE_SERVERS is set")
        pytest.skip("Chromium is not installed")
    return found


class Tab:
    """One page in the browser."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0
        self.console = []
        self.session = None

    async def send(self, method, **params):
        """Give an order, and return its result; what the page says meanwhile is kept."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": params}
        if self.session:
            order["sessionId"] = self.session
        await self._socket.send_json(order)
        while True:
            message = await asyncio.wait_for(self._socket.receive(), 30)
            answer = json.loads(message.data)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._hear(answer)

    def _hear(self, event):
        if event.get("method") == "Runtime.exceptionThrown":
            self.console.append(event["params"]["exceptionDetails"]["text"])
        elif event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
            self.console.append(event["params"]["entry"]["text"])

    async def open(self, url):
        await self.send("Page.navigate", url=url)
        await self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def run(self, script):
        """The value of an expression in the page."""
        found = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script, seconds=15):
        """Wait until an expression is true, also across a navigation."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            with contextlib.suppress(AssertionError):
                if await self.run(script):
                    return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never true: {script}; the page says {await self.run('document.body.innerText')}")

    async def size(self, width, height=900, scheme="light"):
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)

    async def write(self, text):
        await self.send("Input.insertText", text=text)

    async def picture(self):
        found = await self.send("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(found["data"])


@contextlib.asynccontextmanager
async def tab(folder):
    """A tab in a browser of its own, which ends with the block."""
    words = [program(), "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    words += ["--no-first-run", "--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "about:blank"]
    # As root it refuses to run with its sandbox.
    words[1:1] = ["--no-sandbox"] if os.geteuid() == 0 else []
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, stderr=pipe, stdout=asyncio.subprocess.DEVNULL)
    try:
        address = None
        while address is None:
            line = await asyncio.wait_for(process.stderr.readline(), 30)
            assert line, "the browser has ended"
            found = re.search(rb"DevTools listening on (ws://\S+)", line)
            address = found and found[1].decode()
        reader = asyncio.ensure_future(process.stderr.read())
        async with aiohttp.ClientSession() as client, client.ws_connect(address, max_msg_size=0) as socket:
            page = Tab(socket)
            target = await page.send("Target.createTarget", url="about:blank")
            attached = await page.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            page.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                await page.send(f"{domain}.enable")
            yield page
            page.session = None
            with contextlib.suppress(Exception):
                await page.send("Browser.close")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await reader
