"""`__init_subclass__` and `__class_getitem__` used to lose, once guarded, that they are class methods."""

import pytest

from resilient import bulkhead, circuit_breaker, degrade, retry, timeout

POLICIES = [
    lambda: retry(base_delay=0, max_attempts=3),
    circuit_breaker,
    bulkhead,
    lambda: timeout(5),
    lambda: degrade(fallback=None),
]
NAMES = ["retry", "circuit_breaker", "bulkhead", "timeout", "degrade"]


@pytest.mark.parametrize("make", POLICIES, ids=NAMES)
def test_init_subclass(make):
    """A guarded `__init_subclass__` is called with the new class and its keywords."""
    seen = []

    class Base:
        @make()
        def __init_subclass__(cls, *, flag=None, **options):
            super().__init_subclass__(**options)
            seen.append((cls.__name__, flag))

    class Child(Base, flag=1):
        pass

    class Grandchild(Child):
        def __init_subclass__(cls, **options):
            super().__init_subclass__(flag="great", **options)

    type("Great", (Grandchild,), {})
    assert seen == [("Child", 1), ("Grandchild", None), ("Great", "great")]


@pytest.mark.parametrize("make", POLICIES, ids=NAMES)
def test_class_getitem(make):
    """A guarded `__class_getitem__` is called with the class that is subscripted."""

    class Base:
        @make()
        def __class_getitem__(cls, item):
            return cls.__name__, item

    class Child(Base):
        pass

    assert (Base[int], Child[str]) == (("Base", int), ("Child", str))


@pytest.mark.parametrize("make", POLICIES, ids=NAMES)
def test_new(make):
    """A guarded `__new__` is called with the class to make an instance of."""

    class Base:
        @make()
        def __new__(cls, *args):
            made = super().__new__(cls)
            made.args = args
            return made

    class Child(Base):
        pass

    assert (type(Child(1)), Child(1).args, Base().args) == (Child, (1,), ())


@pytest.mark.parametrize("explicit", [False, True], ids=["implicit", "explicit"])
def test_retried(explicit):
    """They are really guarded: what fails at first is tried again, also as explicit class methods."""
    calls, policy = [], retry(base_delay=0)

    def flaky(name):
        calls.append(name)
        if calls.count(name) < 3:
            raise ConnectionError
        return name

    class Base:
        if explicit:

            @policy
            @classmethod
            def __init_subclass__(cls):
                flaky("subclass")

            @classmethod
            @policy
            def __class_getitem__(cls, item):
                return flaky(item)
        else:

            @policy
            def __init_subclass__(cls):
                flaky("subclass")

            @policy
            def __class_getitem__(cls, item):
                return flaky(item)

    class Child(Base):
        pass

    assert Child["item"] == "item"
    assert (calls.count("subclass"), calls.count("item")) == (3, 3)


def test_stacked():
    """Several policies on top of each other are all of them around the method."""

    class Base:
        @degrade(fallback="spare")
        @retry(base_delay=0)
        def __class_getitem__(cls, item):
            raise ConnectionError

    assert Base[int] == "spare"
