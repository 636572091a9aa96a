"""Steps of `cache_clear`: caches of every kind, and directories that are never left."""

import functools
import json
import os
import threading

import pytest
from cachetools import TTLCache

from resilient import CachedDegradation, ConfigurationError, degrade
from resilient.orchestrator import PlanInvalidError, RecoveryOrchestrator, RecoveryPlan, SqliteJournal
from resilient.orchestrator.embedded import _opaque
from resilient.orchestrator.executors import ActionFailedError, ActionStoppedError, CacheClearExecutor
from resilient.orchestrator.files import as_dict

from .helpers import Stop, context, names, step

clearing = CacheClearExecutor()


def clear(told=None, **parameters):
    return clearing.execute(step("cache_clear", **parameters), told or context())


def test_object():
    """An object is emptied by its own clear()."""
    cache = {"a": 1, "b": 2}
    assert clear(target=cache) == {"cleared": "dict", "entries": 2}
    assert cache == {}


def holding_itself():
    cache = {}
    cache["me"] = cache
    return cache


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": "${", "b": "hunter2"},
        lambda: {"b": "${parameters.host} hunter2"},
        lambda: {1: object(), ("t", 2): "hunter2"},
        lambda: dict.fromkeys(range(200_001), "hunter2"),
        lambda: ["${parameters.host}", "hunter2"],
        holding_itself,
    ],
)
def test_content_of_a_cache_is_nobodys_business(tmp_path, make):
    """Whatever a dict or list holds that is to be cleared: it itself is, and nothing of it gets into the journal."""
    cache, file = make(), tmp_path / "recovery.db"
    with RecoveryOrchestrator(SqliteJournal(file)) as orchestrator:
        orchestrator.register_plan(RecoveryPlan("empty", "Empty", [step("cache_clear", target=cache)]))
        orchestrator.execute_plan("empty", {"host": "db1"})
        assert len(cache) == 0
        assert b"hunter2" not in b"".join(one.read_bytes() for one in tmp_path.iterdir())


def test_cache_that_changes_is_the_same_plan():
    """A plan with a cache is the same plan when the cache holds something else, so that it can be resumed."""
    cache = TTLCache(10, 60)
    work = RecoveryPlan("empty", "Empty", [step("cache_clear", target=cache)])
    before = as_dict(work, opaque=_opaque)
    cache["a"] = "hunter2"
    assert as_dict(work, opaque=_opaque) == before


def test_table_for_a_cache_is_refused_in_files(tmp_path):
    """A file cannot hold a cache: neither is a table in it taken for one, nor a dict written into it."""
    file = tmp_path / "plan.json"
    with pytest.raises(PlanInvalidError, match=r"steps\[0\].parameters.target: .*got a table; name code as"):
        RecoveryPlan("empty", "Empty", [step("cache_clear", target={"a": 1})]).dump(file)
    steps = [{"id": "a", "name": "A", "step_type": "cache_clear", "parameters": {"target": {"a": 1}}}]
    file.write_text(json.dumps({"id": "empty", "name": "Empty", "steps": steps}))
    with pytest.raises(PlanInvalidError, match=r"plan.json: steps\[0\].parameters.target: expected text, got a table"):
        RecoveryPlan.load(file)


def test_async_object():
    """An async clear() is awaited."""

    class Cache:
        full = True

        async def clear(self):
            self.full = False

    cache = Cache()
    assert clear(target=cache) == {"cleared": "Cache", "entries": None}
    assert not cache.full


@functools.lru_cache
def squared(number):
    return number**2


REMEMBERED = {"a": 1}


def test_name():
    """A cache can be named by its module, also a function with functools.lru_cache; others are refused."""
    squared(2)
    assert clear(target=f"{__name__}:squared") == {"cleared": f"{__name__}:squared", "entries": 1}
    assert squared.cache_info().currsize == 0
    assert clear(target=f"{__name__}:REMEMBERED")["entries"] == 1
    with pytest.raises(ConfigurationError, match="os:getpid: has no clear"):
        clear(target="os:getpid")
    with pytest.raises(ConfigurationError, match=r"no degradation of this name has a cache.*known: none"):
        clear(target="payments")


@pytest.mark.parametrize("aged", [True, False])
@pytest.mark.parametrize("make", [dict, lambda: TTLCache(10, 60)])
def test_degradation(aged, make):
    """A degradation of the registry is named by its name, and the next call is a real one."""
    calls, cache = [], make()
    kept = CachedDegradation(cache, cache_ttl=60) if aged else cache

    @degrade(cache=kept, name="prices")
    def price(thing):
        calls.append(thing)
        return 3

    price("tea")
    assert clear(target="prices") == {"cleared": "prices", "entries": 1}
    assert len(cache) == 0
    price("tea")
    assert calls == ["tea", "tea"]


def test_degradation_without_cache():
    """A degradation without a cache is refused, with the names of those that have one."""
    degrade(fallback=1, name="plain")(lambda: 1)
    degrade(cache={}, name="kept")(lambda: 1)
    with pytest.raises(ConfigurationError, match="plain: has no clear"):
        clear(target="plain")
    with pytest.raises(ConfigurationError, match=r"known: kept$"):
        clear(target="other")


def test_stopped_object():
    """A clear() that hangs does not hold up a step that is stopped."""
    end, stop = threading.Event(), Stop()

    class Cache:
        def clear(self):
            end.wait(10)

    with pytest.raises(ActionStoppedError):
        clear(context(stopped=stop), target=Cache())
    assert stop.ago < 0.2
    end.set()


@pytest.fixture
def root(tmp_path):
    """Return a root with a full cache inside, and things around it that must stay."""
    top = tmp_path / "top"
    deep = top / "pages" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "page").write_bytes(b"x" * 100)
    (top / "pages" / "index").write_bytes(b"y" * 11)
    (top / "other").write_text("stays")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("stays")
    return top


@pytest.mark.parametrize("relative", [True, False])
def test_directory(root, relative):
    """What is in the directory goes, the directory and all around it stays."""
    path = "pages" if relative else str(root / "pages")
    assert clear(path=path, root=root) == {"cleared": str(root / "pages"), "entries": 4, "bytes": 111}
    assert names(root) == ["other", "pages"]
    assert names(root / "pages") == []
    assert clear(path=path, root=root)["entries"] == 0


def test_links_inside(root):
    """Links are removed, and what they lead to stays."""
    (root / "pages" / "link").symlink_to(root.parent / "outside")
    (root / "pages" / "a" / "loose").symlink_to("/no/such/place")
    assert clear(path="pages", root=root)["entries"] == 6
    assert names(root.parent / "outside") == ["file"]


def test_link_as_path(root):
    """A path that is a link counts as where it leads: inside the root it is cleared, outside it is refused."""
    (root / "inside").symlink_to(root / "pages")
    (root / "out").symlink_to(root.parent / "outside")
    assert clear(path="inside", root=root)["entries"] == 4
    with pytest.raises(ActionFailedError, match=r"path=out: leads to .*outside, which is not inside the root"):
        clear(path="out", root=root)
    assert names(root.parent / "outside") == ["file"]


@pytest.mark.parametrize("path", ["..", ".", "pages/../..", "/", "../outside", "../top", "pages/../../top"])
def test_path_outside(root, path):
    """A path that is not strictly inside the root is refused, and nothing is removed."""
    with pytest.raises(ActionFailedError, match="path="):
        clear(path=path, root=root)
    assert names(root / "pages") == ["a", "index"]
    assert names(root.parent / "outside") == ["file"]


def test_sacred_places(root, monkeypatch):
    """The root of the file system, the home directory and what holds it or the current directory are refused."""
    with pytest.raises(ActionFailedError, match="must not be the root of the file system"):
        clear(path="tmp", root="/")
    home = root / "pages" / "a"
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(ActionFailedError, match="must not be the home directory"):
        clear(path="b", root=home)
    with pytest.raises(ActionFailedError, match="the home directory is inside it"):
        clear(path="pages", root=root)
    monkeypatch.setenv("HOME", str(root.parent / "outside"))
    monkeypatch.chdir(home)
    with pytest.raises(ActionFailedError, match="the current directory is inside it"):
        clear(path="pages", root=root)
    assert names(root / "pages") == ["a", "index"]


def test_missing(root):
    """A root that is not there is refused, a path that is not there too, unless that is allowed."""
    with pytest.raises(ActionFailedError, match=r"root=.*there is no such directory"):
        clear(path="pages", root=root / "gone")
    with pytest.raises(ActionFailedError, match="there is no such directory"):
        clear(path="gone", root=root)
    assert clear(path="gone", root=root, missing_ok=True)["entries"] == 0
    with pytest.raises(ActionFailedError, match="there is no such directory"):
        clear(path="other", root=root, missing_ok=True)


def test_link_that_appears(root, monkeypatch):
    """A directory that becomes a link after it was looked at is not followed."""
    real = os.open

    def racing(name, flags, mode=0o777, *, dir_fd=None):
        if name == "pages":
            os.rename(root / "pages", root / "moved")
            (root / "pages").symlink_to(root.parent / "outside")
        return real(name, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", racing)
    with pytest.raises(ActionFailedError):
        clear(path="pages", root=root)
    assert names(root.parent / "outside") == ["file"]


def test_stopped_directory(root):
    """A step that is stopped leaves the rest of the directory."""
    looks = iter([False] * 3 + [True] * 10)
    with pytest.raises(ActionStoppedError):
        clear(context(stopped=lambda: next(looks)), path="pages", root=root)
    assert names(root / "pages") != []
