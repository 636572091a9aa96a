"""A bulkhead's queue may change while its first ticket is looked up: garbage is collected between any two calls."""

from collections import OrderedDict

import pytest

from resilient.bulkhead.state import Places


class Ticket:
    """What waits for a place."""

    held = False

    def wake(self):
        return True


class Interrupted(OrderedDict):
    """Changes once, between the making of an iterator and its first step."""

    change = None

    def __iter__(self):
        iterator = super().__iter__()
        change, self.change = self.change, None
        if change is not None:
            change(self)
        return iterator


def forget_all(queue):
    for ticket in list(queue.keys()):
        queue.pop(ticket)


def add_one(queue):
    queue[Ticket()] = None


@pytest.mark.parametrize(("change", "left"), [(forget_all, 1), (add_one, 0)])
def test_first_in_line(change, left):
    """Whoever is first after the change gets the place, and nothing is raised where nobody is left."""
    places, ticket = Places(1), Ticket()
    places.queue = Interrupted()
    places.queue[ticket] = None
    places.queue.change = change
    places.hand_on()
    assert places.free == left
    assert ticket.held is (change is add_one)
