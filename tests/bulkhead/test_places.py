"""The places and the line: random stories against a list of who is inside and a list of who waits."""

import asyncio
import threading

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_stories

from resilient.bulkhead.state import CLOSED, Places, Ticket


def ticket():
    """A ticket of a thread whose gate tells whether it was woken."""
    made = Ticket()
    made.gate = threading.Lock()
    made.gate.acquire()
    return made


class Stories(RuleBasedStateMachine):
    """Callers come, wait, give up and leave while the number of places changes."""

    @initialize(places=st.integers(1, 4))
    def begin(self, places):
        self.places = Places(places)
        self.total, self.closed = places, False
        self.fast = self.let_in = 0
        self.inside, self.line, self.gone = [], [], []

    def move_up(self):
        while not self.closed and self.line and self.fast + len(self.inside) < self.total:
            self.inside.append(self.line.pop(0))
            self.let_in += 1

    @rule()
    def come(self):
        """Take a place as the layers do, without the lock and only past an empty line."""
        free = self.total - self.fast - len(self.inside)
        if self.places.free > 0 and not self.places.queue:
            self.places.free -= 1
            self.fast += 1
            assert free > 0
            assert not self.closed
        else:
            assert free <= 0 or self.line or self.closed

    @precondition(lambda self: not self.closed)
    @rule(limit=st.sampled_from([None, 0, 1, 2]))
    def line_up(self, limit):
        mine = ticket()
        free = self.total - self.fast - len(self.inside)
        accepted = self.places.enqueue(mine, limit)
        assert accepted == (limit is None or len(self.line) < limit or (free > 0 and not self.line))
        if accepted:
            self.line.append(mine)
            self.move_up()
        else:
            self.gone.append(mine)

    @precondition(lambda self: self.inside or self.line)
    @rule(data=st.data())
    def leave(self, data):
        """End a call, or give up waiting: both are the same to the places."""
        mine = data.draw(st.sampled_from(self.inside + self.line))
        (self.inside if mine in self.inside else self.line).remove(mine)
        self.gone.append(mine)
        self.places.leave(mine)
        self.move_up()

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def leave_again(self, data):
        self.places.leave(data.draw(st.sampled_from(self.gone)))

    @precondition(lambda self: self.fast)
    @rule()
    def leave_fast(self):
        self.fast -= 1
        self.places.free += 1
        if self.places.queue:
            self.places.hand_on()
        self.move_up()

    @rule(more=st.integers(-2, 2))
    def change(self, more):
        self.places.add(more)
        self.total += more
        self.move_up()

    @rule(seldom=st.integers(0, 15))
    def close(self, seldom):
        if not seldom:
            self.places.close()
            self.closed = True
            self.gone += self.line
            self.line = []

    @invariant()
    def agree(self):
        free = self.places.free + (CLOSED if self.closed else 0)
        assert free == self.total - self.fast - len(self.inside)
        assert list(self.places.queue) == self.line, "not first come, first served"
        assert all(one.held for one in self.inside)
        assert not any(one.held for one in self.line + self.gone)
        assert not any(one.gate.locked() for one in self.inside), "let in and not woken"
        assert all(one.gate.locked() for one in self.line), "woken without a place"
        assert self.places.admitted == self.let_in
        assert free <= 0 or not self.line or self.closed, "somebody waits beside a free place"


def test_places():
    """Never more inside than there are places, in the order of arrival, and nobody who gives up leaves a trace."""
    run_stories(Stories, settings=settings(max_examples=120, stateful_step_count=40))


def test_ticket_of_a_closed_loop():
    """A place handed to a task whose event loop is closed goes on to the next in line."""
    places, dead, alive = Places(0), Ticket(), ticket()

    async def line_up():
        dead.loop = asyncio.get_running_loop()
        dead.future = dead.loop.create_future()
        places.enqueue(dead, None)
        places.enqueue(alive, None)

    asyncio.run(line_up())
    places.add(1)
    assert (dead.held, alive.held, places.free) == (False, True, 0)


def test_ticket_woken_twice():
    """A task that is given a place in the moment its wait ends is woken once."""

    async def main():
        mine = Ticket()
        mine.loop = asyncio.get_running_loop()
        mine.future = mine.loop.create_future()
        assert mine.wake()
        mine.wake_here()
        await asyncio.wait_for(mine.future, 1)

    asyncio.run(main())
