"""Keys of calls: equal arguments of equal types share one, nothing is kept alive, and some have none."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.degrade.keys import Unkeyable, key_of

ATOMS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.0, 1.0, 2.0, "", "a", b"a", 1j])
VALUES = st.recursive(ATOMS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2), max_leaves=5)


def shape(value):
    """Write a value with the types of all its parts, in a way that does not depend on how keys are made."""
    if isinstance(value, tuple):
        return "(" + ",".join(map(shape, value)) + ")"
    if isinstance(value, frozenset):
        return "{" + ",".join(sorted(map(shape, value))) + "}"
    return f"{type(value).__name__}:{value!r}"


@given(one=VALUES, other=VALUES)
def test_same_key_means_same_value_and_types(one, other):
    """Two values share a key exactly when they and all their parts are equal and of the same types."""
    assert (key_of((one,), {}) == key_of((other,), {})) == (shape(one) == shape(other))
    assert hash(key_of((one,), {})) == hash(key_of((one,), {}))


@given(args=st.lists(VALUES, max_size=3), kwargs=st.dictionaries(st.sampled_from("abc"), VALUES))
def test_keyword_order_does_not_matter(args, kwargs):
    """Keywords in another order are the same call; the same values by position are another one."""
    backwards = dict(reversed(kwargs.items()))
    assert key_of(tuple(args), kwargs) == key_of(tuple(args), backwards)
    if kwargs:
        assert key_of((*args, *kwargs.values()), {}) != key_of(tuple(args), kwargs)


class Plain:
    def method(self):
        """Do nothing."""


class Valued:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Valued) and self.value == other.value

    def __hash__(self):
        return hash(self.value)


class Other(Valued):
    pass


class Slotted:
    __slots__ = ()


class Unhashable(Valued):
    __hash__ = None


class Breaking(Valued):
    def __hash__(self):
        raise TypeError


def test_identity_objects():
    """Objects equal only to themselves have keys of their own, die as usual, and their death is told."""
    one, two, dead = Plain(), Plain(), []
    key = key_of((one,), {}, dead.append)
    assert key == key_of((one,), {})
    assert key != key_of((two,), {})
    assert dead == []
    del one
    gc.collect()
    assert dead == [key[0]]
    assert key[0]() is None


def test_bound_methods():
    """A bound method is keyed by its object, and keeps it no more alive than the object itself would."""
    one, two = Plain(), Plain()
    assert key_of((one.method,), {}) == key_of((one.method,), {})
    assert key_of((one.method,), {}) != key_of((two.method,), {})


def test_objects_with_an_equality():
    """Objects with an equality of their own are keyed by it and by their type."""
    assert key_of((Valued(1),), {}) == key_of((Valued(1),), {})
    assert key_of((Valued(1),), {}) != key_of((Valued(2),), {})
    assert key_of((Valued(1),), {}) != key_of((Other(1),), {})


@pytest.mark.parametrize(
    "value", [[], {}, set(), ([],), Unhashable(1), Breaking(1), Slotted(), bytearray()], ids=lambda v: type(v).__name__
)
def test_what_has_no_key(value):
    """Unhashable arguments, and identity objects that take no weak reference, have no key."""
    with pytest.raises(Unkeyable):
        key_of((value,), {})
    with pytest.raises(Unkeyable):
        key_of((), {"value": value}, lambda dead: None)
