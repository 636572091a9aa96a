"""The page in a real browser: drawn, live, still under the fingers of who writes, and harmless."""

import asyncio
import struct
import threading

import pytest

from resilient import DegradationManager, circuit_breaker, registry, retry
from resilient.orchestrator import ExecutionStatus, RecoveryOrchestrator, RecoveryPlan, RecoveryStep
from resilient.web import serve

from .asking import TOKEN
from .browser import tab

LONG = "payments of the warehouse in the north " * 8

#: What sticks out of the window, and which words have too little contrast to their background (WCAG AA: 4.5 to 1).
MEASURE = """(() => {
  const light = (value) => { const c = value / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const back = (one) => { for (; one; one = one.parentElement) {
    const found = channels(getComputedStyle(one).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found; } return [255, 255, 255]; };
  const seen = [...document.querySelectorAll("body *")].filter((one) => one.getClientRects().length &&
    !one.closest(".unseen, .defs, .skip"));
  const worded = seen.filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) &&
    !one.closest("svg, thead, caption"));
  const pale = worded.filter((one) => {
    const a = luminance(channels(getComputedStyle(one).color)), b = luminance(back(one));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  });
  return { width: innerWidth, scroll: document.documentElement.scrollWidth,
    outside: seen.filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
      .filter((one) => !one.closest("thead, caption")).map((one) => one.outerHTML.slice(0, 150)),
    pale: pale.map((one) => one.outerHTML.slice(0, 150)), badges: document.querySelectorAll(".badge").length,
    back: getComputedStyle(document.body).backgroundColor };
})()"""


@pytest.fixture
def orchestrator():
    with RecoveryOrchestrator(registry=registry) as made:
        made.step("work")(lambda step, context: None)
        steps = [RecoveryStep("warm", "Warm the cache", "work"), RecoveryStep("ask", "Ask the operator", "approval")]
        made.register_plan(RecoveryPlan("shop", "Bring the shop back", steps, dependencies={"ask": ["warm"]}))
        yield made


def fail():
    raise ConnectionError("down")


def crowd():
    """500 policies, long and nasty names, one of each state."""
    for number in range(500):
        circuit_breaker(f"service-{number:03d}")
    circuit_breaker(LONG).isolate()
    circuit_breaker("w" * 300).isolate()
    circuit_breaker("<script>window.scripted = 1</script><img src=x onerror='window.scripted = 2'>").isolate()
    circuit_breaker("off").disable()
    retry(name="fetch")
    with pytest.raises(ConnectionError):
        circuit_breaker("payments", failure_threshold=1).call(fail)
    with pytest.raises(ConnectionError):
        circuit_breaker("half", failure_threshold=1, recovery_timeout=0).call(fail)


def browse(folder, steps):
    async def run():
        async with tab(folder) as page:
            await steps(page)

    asyncio.run(run())


async def sign_in(page, url):
    await page.open(f"{url}session")
    await page.run("document.getElementById('token').focus()")
    await page.write(TOKEN)
    await page.press("Enter", 13)
    await page.until("document.body.innerText.includes('You are signed in')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_crowded_page_fits_and_can_be_read(make, orchestrator, tmp_path, width, scheme):
    """500 policies, long names, every state, a recovery that waits: nothing sticks out, every word has its contrast."""
    crowd()
    manager = DegradationManager(name="shop")
    manager.record("recommendations", True)
    orchestrator.start_plan("shop")
    app = make(token=TOKEN, orchestrator=orchestrator)

    async def steps(page):
        await page.size(width, 900, scheme)
        await sign_in(page, server.url)
        await page.until("document.querySelectorAll('form[action$=approve]').length === 1")
        found = await page.run(MEASURE)
        assert (found["width"], found["scroll"] <= width) == (width, True)
        assert found["outside"] == []
        assert found["pale"] == []
        assert found["badges"] > 100
        assert found["back"] == {"light": "rgb(246, 247, 249)", "dark": "rgb(15, 19, 24)"}[scheme]
        assert await page.run("window.scripted") is None
        assert struct.unpack(">I", (await page.picture())[16:20])[0] == width
        await page.open(f"{server.url}policy?kind=circuit_breaker&name=payments")
        found = await page.run(MEASURE)
        assert (found["scroll"] <= width, found["outside"], found["pale"]) == (True, [], [])
        assert page.console == []

    with serve(app, port=0) as server:
        browse(tmp_path, steps)


def test_open_page_follows_what_happens(app, tmp_path):
    """A page that is open shows a circuit that opens, by itself and soon, and says that it is live."""
    breaker = circuit_breaker("payments")

    async def steps(page):
        await page.open(server.url)
        await page.until("document.getElementById('mode').textContent === 'Live'")
        assert "Isolated" not in await page.run("document.querySelector('table').innerText")
        breaker.isolate()
        await page.until("document.querySelector('table').innerText.includes('Isolated')", 4)
        assert app.feed.streams == 1
        assert page.console == []

    with serve(app, port=0) as server:
        browse(tmp_path, steps)


def test_page_polls_where_there_are_no_streams(app, tmp_path):
    """Where the stream is refused, the page asks again and again, and says so."""
    app.feed.most_streams = 0
    breaker = circuit_breaker("payments")

    async def steps(page):
        await page.open(server.url)
        await page.until("document.getElementById('mode').textContent === 'Updates every 5 s'")
        breaker.isolate()
        await page.until("document.querySelector('table').innerText.includes('Isolated')", 12)

    with serve(app, port=0) as server:
        browse(tmp_path, steps)


def test_page_says_when_the_server_hangs(app, tmp_path, monkeypatch):
    """A server that takes the request and never answers is no answer: the page does not go on saying it is live."""
    real, hangs, goes_on = app.handle, threading.Event(), threading.Event()

    def handle(request):
        if hangs.is_set() and request.asked("fragment"):
            goes_on.wait(30)
        return real(request)

    async def steps(page):
        script = "const real = AbortSignal.timeout.bind(AbortSignal); AbortSignal.timeout = (ms) => real(ms / 50);"
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=script)
        await page.open(url)
        await page.until("document.getElementById('mode').textContent === 'Live'")
        hangs.set()
        await page.until("document.getElementById('mode').textContent === 'No answer; trying again'")
        hangs.clear()
        goes_on.set()
        await page.until("document.getElementById('mode').textContent === 'Live'")

    monkeypatch.setattr(app, "handle", handle)
    with serve(app, port=0) as server:
        url = server.url
        browse(tmp_path, steps)


def test_page_says_when_nobody_answers_and_comes_back(app, tmp_path):
    """When the server ends, the page keeps what it shows and says so; when it is back, the page goes on."""
    breaker = circuit_breaker("payments")

    async def steps(page):
        nonlocal server
        await page.open(server.url)
        await page.until("document.getElementById('mode').textContent === 'Live'")
        port = server.port
        server.close()
        await page.until("document.getElementById('mode').textContent === 'No answer; trying again'")
        assert "payments" in await page.run("document.querySelector('table').innerText")
        breaker.isolate()
        server = serve(app, port=port)
        await page.until("document.querySelector('table').innerText.includes('Isolated')", 15)

    server = serve(app, port=0)
    try:
        browse(tmp_path, steps)
    finally:
        server.close()


def test_what_is_being_written_is_left_alone(make, orchestrator, tmp_path):
    """While somebody writes into a form, news waits; what was opened stays open, and the focus where it was."""
    breaker = circuit_breaker("payments")
    orchestrator.start_plan("shop")
    app = make(token=TOKEN, orchestrator=orchestrator)

    async def steps(page):
        await sign_in(page, server.url)
        await page.until("document.querySelector('input[name=by][required]') !== null")
        await page.run("document.querySelector('input[name=by][required]').focus()")
        await page.write("Emma")
        breaker.isolate()
        await page.until("document.getElementById('mode').textContent === 'Paused while you write'")
        assert await page.run("document.activeElement.value") == "Emma"
        await page.run("document.activeElement.value = ''; document.activeElement.blur()")
        await page.until("document.querySelector('table').innerText.includes('Isolated')")
        await page.run(
            "[...document.querySelectorAll('summary')].find((one) => one.innerText.includes('Cancel')).click()"
        )
        await page.run("document.querySelector('a[href*=payments]').focus()")
        breaker.reset()
        await page.until("document.querySelector('table').innerText.includes('Closed')")
        assert await page.run("document.activeElement.textContent") == "payments"
        opened = (
            "[...document.querySelectorAll('details[open] summary')].some((one) => one.innerText.includes('Cancel'))"
        )
        assert await page.run(opened) is True
        assert page.console == []

    with serve(app, port=0) as server:
        browse(tmp_path, steps)


def test_operator_acts_by_keyboard_alone(make, orchestrator, tmp_path):
    """Sign in, isolate, reset, change an option and approve, by the page's own forms, under its own policy."""
    breaker = circuit_breaker("payments")
    execution = orchestrator.start_plan("shop")
    app = make(token=TOKEN, orchestrator=orchestrator)

    async def steps(page):
        await sign_in(page, server.url)
        await page.run("document.querySelector('a[href*=payments]').focus()")
        await page.press("Enter", 13)
        for button, state in (("isolate", "isolated"), ("reset", "closed")):
            await page.until(f"document.getElementById('{button}') !== null")
            await page.run(f"document.getElementById('{button}').focus()")
            await page.press("Enter", 13)
            await page.until(f"location.search.includes('done={button}')")
            assert breaker.state.value == state
        await page.run("document.getElementById('value').focus()")
        await page.write("9")
        await page.press("Enter", 13)
        await page.until("document.body.innerText.includes('The option is changed.')")
        assert breaker.config.failure_threshold == 9
        await page.open(server.url)
        await page.until("document.querySelector('input[name=by][required]') !== null")
        await page.run("document.querySelector('input[name=by][required]').focus()")
        await page.write("Emma")
        await page.press("Enter", 13)
        await page.until("document.body.innerText.includes('The step is approved.')")
        assert page.console == []

    with serve(app, port=0) as server:
        browse(tmp_path, steps)
    assert orchestrator.wait_for(execution, 5).status is ExecutionStatus.COMPLETED


def test_page_works_in_a_browser_without_scripts(acting, tmp_path):
    """With scripts switched off, policies are listed, found, and acted on."""
    breaker = circuit_breaker("payments")
    circuit_breaker("other")

    async def steps(page):
        await page.send("Emulation.setScriptExecutionDisabled", value=True)
        await sign_in(page, server.url)
        await page.open(f"{server.url}?q=pay")
        words = await page.run("document.querySelector('table').innerText")
        assert "payments" in words
        assert "other" not in words
        await page.open(f"{server.url}policy?kind=circuit_breaker&name=payments")
        await page.run("document.getElementById('isolate').focus()")
        await page.press("Enter", 13)
        await page.until("document.body.innerText.includes('The breaker is isolated.')")
        assert breaker.state.value == "isolated"

    with serve(acting, port=0) as server:
        browse(tmp_path, steps)


def test_empty_page_is_calm(app, tmp_path):
    """With nothing registered the page says so, and complains of nothing."""

    async def steps(page):
        await page.size(390)
        await page.open(server.url)
        await page.until("document.getElementById('mode').textContent === 'Live'")
        assert "No policy is registered yet." in await page.run("document.body.innerText")
        found = await page.run(MEASURE)
        assert (found["outside"], found["pale"], found["scroll"] <= 390) == ([], [], True)
        assert page.console == []

    with serve(app, port=0) as server:
        browse(tmp_path, steps)
