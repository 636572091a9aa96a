"""The page about policies of one's own: its table names what a subclass may have, and its rate limiter limits."""

import asyncio
import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from resilient import metrics, registry
from resilient.policy import BlockPolicy, Policy
from resilient.testing import VirtualClock

from . import pages
from .test_reference import tables

PAGE = pages.DOCS / "how-to" / "add-a-policy.md"
#: What a policy has for those who use it; the rest of its public names are for those who write one.
FOR_USERS = {"call", "acall", "config", "defined", "kind", "name", "own_calls", "parts"}


class Bare(Policy):
    """A policy in which nothing is written."""

    kind = "bare"


@pytest.fixture
def page() -> Any:
    """The names that the page defines, in a registry of their own."""
    names: dict[str, Any] = {"__name__": "shop", "print": lambda *_, **__: None}
    with registry.scoped():
        for block in pages.read(PAGE)[0]:
            if block.language == "python":
                exec(compile(block.text, block.id, "exec"), names)  # noqa: S102 - the page is what is tested
        yield names


def test_members() -> None:
    """Each public member that a subclass may write has its row, and no row is left over."""
    rows = next(rows for rows in tables(PAGE) if rows[0][0] == "member")
    documented = {row[0].strip("`").partition("(")[0] for row in rows[2:]}

    assert documented == {name for name in dir(Policy) if not name.startswith("_")} - FOR_USERS


def test_defaults() -> None:
    """What a member does by default is what the table says of it."""
    rows = next(rows for rows in tables(PAGE) if rows[0][0] == "member")
    policy = Bare(None, "bare")
    for name, _, default in rows[2:]:
        called = name.strip("`").partition("(")[0]
        if "raises" not in default:
            continue
        arguments = (None, None) if called.endswith("layer") else ()
        with pytest.raises((NotImplementedError, TypeError)) as raised:
            getattr(policy, called)(*arguments)
        assert f"`{raised.type.__name__}`" in default
    assert (policy.amplification, policy.bound(3.0), policy.uses()) == (1, 3.0, ())


def test_what_a_block_needs() -> None:
    """The methods that the page names for `BlockPolicy` are those that it leaves to a subclass."""
    block = BlockPolicy(None, "bare")
    prose = pages.read(PAGE)[1]

    with pytest.raises(NotImplementedError):
        block.enter()
    with pytest.raises(NotImplementedError):
        asyncio.run(block.aenter())
    with pytest.raises(NotImplementedError):
        block.leave(None, None)
    assert all(f"`{one}" in prose for one in ("enter()", "aenter()", "leave(permit, error)"))


def test_the_limiter_counts_every_caller(page: Any) -> None:
    """Threads that come together get as many turns as there are, and not one more."""
    limiter = page["rate_limit"]("together", rate=1, burst=25)
    outcomes: list[bool] = []
    together = threading.Barrier(8)

    def come() -> None:
        together.wait(5)
        for _ in range(10):
            try:
                outcomes.append(limiter.call(lambda: True))
            except page["RateLimitedError"]:
                outcomes.append(False)

    with VirtualClock():
        threads = [threading.Thread(target=come) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)

    assert (sum(outcomes), len(outcomes)) == (25, 80)
    assert limiter.get_metrics() == (25, 55)


def test_a_kind_of_its_own_is_on_no_shelf(page: Any) -> None:
    """What the page says the registry does not do for it, it does not do."""
    assert not any("mail" in shelf for shelf in registry.snapshot().values())
    with pytest.raises(KeyError):
        registry.obtain("rate_limit", "mail", None, lambda: page["mail"])
    with pytest.raises(ValueError, match="kind='rate_limit'"):
        registry.configure("rate_limit", "mail", rate=3)
    numbers = CollectorRegistry()
    metrics.install(numbers)
    try:
        exported = generate_latest(numbers).decode()
    finally:
        metrics.uninstall(numbers)
    assert 'name="printer"' in exported
    assert 'name="mail"' not in exported
