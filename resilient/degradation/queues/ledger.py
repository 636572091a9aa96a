"""The book of a durable queue: which calls there are, who works on them, and how they ended.

huey's queue forgets an entry as it hands it out, so entries are no more than hints. What counts is the state of a
call, which is replaced in one step if it is still the one that was read: only one process can take a call up, and a
process that dies at any point leaves a state behind that `sweep` understands.
"""

from __future__ import annotations

import logging
import pickle
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from resilient.clock import CLOCK
from resilient.degradation.queues.owners import Owner, certainly_gone, new_owner
from resilient.degradation.queues.receipts import described
from resilient.degradation.queues.stores import Store
from resilient.errors import ConfigurationError, ResilienceError
from resilient.events import log_failure

_log = logging.getLogger("resilient.queue")

_ORPHAN_AGE = 3600.0
_BATCH = 100
_PURGE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class State:
    """A call that has not ended. `owner` is who makes it right now; times are wall clock."""

    call: str
    deadline: float
    due: float
    attempts: int = 0
    repeated: int = 0
    #: The attempt before was cut short, so that this one makes again what may have happened.
    interrupted: bool = False
    owner: Owner | None = None

    def packed(self) -> bytes:
        """As bytes."""
        fields = asdict(self) | {"owner": None if self.owner is None else tuple(self.owner)}
        return pickle.dumps(fields)


def unpacked(raw: bytes) -> State:
    """The state in these bytes."""
    fields = pickle.loads(raw)  # noqa: S301 - the file or server holds the pickled calls anyway
    owner = fields.pop("owner")
    return State(**fields, owner=None if owner is None else Owner(*owner))


class Outcome(NamedTuple):
    """How a call ended."""

    answer: Any
    error: BaseException | None
    attempts: int
    repeated: int


class Claim(NamedTuple):
    """A call taken up by this process: its state, and the bytes that say so."""

    id: str
    state: State
    raw: bytes


class Ledger:
    """Reads and writes the book; all steps are safe beside those of other threads and processes."""

    def __init__(self, open_store: Callable[[str], Store], lease: float, result_ttl: float) -> None:
        self._lease = lease
        self._result_ttl = result_ttl
        #: Ids on the queue and on the schedule, and states by id.
        self.live = open_store("")
        #: What is to be called, by id; and the heartbeats of who does so, by id and ".beat".
        self.calls = open_store(":calls")
        #: Outcomes by id, and on the schedule when to forget them.
        self.done = open_store(":done")
        # Claims of others, as they were when they last changed, and when that was on our own clock: the clocks of
        # several machines need not agree.
        self._seen: dict[str, tuple[tuple[bytes, bytes | None], float]] = {}
        self._unreadable: set[str] = set()

    # Putting and taking -------------------------------------------------------------------------

    def put(self, payload: bytes, call: str, give_up_after: float, tell: Callable[[str], object]) -> str:
        """Enter a call, which is to be put on the queue then; returns its id."""
        now = time.time()
        key = f"{int(now * 1e6):014x}{secrets.token_hex(9)}"
        self.calls.put(key, payload)
        self.live.put(key, State(call, now + give_up_after, now).packed())
        tell(key)
        return key

    def take(self, key: str) -> Claim | None:
        """Take a call up for one attempt; None if it has ended, is not due, or somebody else has it."""
        raw = self.live.get(key)
        if raw is None:
            return None
        state = self._read(key, raw)
        if state is None or state.owner is not None:
            return None
        if state.due > time.time():
            self.live.later(key, state.due)
            return None
        taken = replace(state, owner=new_owner(self._lease), attempts=state.attempts + 1)
        claimed = taken.packed()
        if not self.live.swap(key, raw, claimed):
            return None
        try:
            ended = self.done.get(key) is not None
        except Exception:
            self.live.swap(key, claimed, raw)  # or else the call would wait for a lease
            raise
        if ended:
            self._clear(key)  # its process died between noting the outcome and clearing up
            return None
        return Claim(key, taken, claimed)

    def _read(self, key: str, raw: bytes) -> State | None:
        """The state in these bytes; None, which is logged once, where they hold none."""
        try:
            return unpacked(raw)
        except Exception:
            if key not in self._unreadable:
                self._unreadable.add(key)
                text = "the record of the queued call %s cannot be read"
                log_failure(_log, "queue.call_unreadable", text, key, kind="queue", id=key)
            return None

    def again(self, claim: Claim, due: float) -> bool:
        """Give a call back for another attempt; False if it is not ours any more."""
        state = replace(claim.state, owner=None, interrupted=False, due=due)
        if not self.live.swap(claim.id, claim.raw, state.packed()):
            return False
        self.live.later(claim.id, due)
        return True

    def beat(self, key: str, number: int) -> None:
        """Show that the process which has the call is alive."""
        self.calls.put(f"{key}.beat", str(number).encode())

    def end(self, claim: Claim, outcome: Outcome) -> Outcome | None:
        """Note how a call ended, and clear up; returns the outcome that counts: the first success, or else failure.

        Whoever has lost the call to another process cannot say that it failed: that is None.
        """
        if outcome.error is not None and not self._keep(claim):
            return None
        packed = packed_outcome(outcome)
        first = self.done.add(claim.id, packed)
        if first:
            self.done.later(claim.id, time.time() + self._result_ttl)
        known = outcome if first or self._prevails(claim.id, outcome, packed) else self.outcome(claim.id) or outcome
        self._clear(claim.id)
        return known

    def _keep(self, claim: Claim) -> bool:
        """Whether the call is still ours; if so, a process that waits for our lease to end has to begin anew."""
        kept = replace(claim.state, owner=new_owner(self._lease)).packed()
        if self.live.swap(claim.id, claim.raw, kept):
            return True
        raw = self.live.get(claim.id)
        state = None if raw is None else self._read(claim.id, raw)
        # A write of ours that failed half way is tried again, with the claim as it was.
        return state is not None and state.attempts == claim.state.attempts and _same_process(state, claim.state)

    def _prevails(self, key: str, outcome: Outcome, packed: bytes) -> bool:
        """Put a success in the place of a failure that another process has noted."""
        raw = self.done.get(key)
        if outcome.error is not None or raw is None:
            return False
        noted = unpacked_outcome(raw).error
        return noted is not None and not isinstance(noted, Unreadable) and self.done.swap(key, raw, packed)

    def _clear(self, key: str) -> None:
        for store, name in ((self.live, key), (self.calls, key), (self.calls, f"{key}.beat")):
            store.drop(name)

    # Looking ------------------------------------------------------------------------------------

    def state(self, key: str) -> State | None:
        """The state of a call that has not ended."""
        raw = self.live.get(key)
        return None if raw is None else unpacked(raw)

    def outcome(self, key: str) -> Outcome | None:
        """How a call ended, if it has."""
        raw = self.done.get(key)
        return None if raw is None else unpacked_outcome(raw)

    # Clearing up after the dead -----------------------------------------------------------------

    def sweep(self, mine: Callable[[str], bool]) -> set[str]:
        """Put back on the queue what is neither there, nor scheduled, nor in the hands of a living process.

        Returns the ids of all calls that have not ended.
        """
        now = time.time()
        keys = self.live.keys()
        listed = self.live.listed()
        for key in keys:
            raw = None if key in listed or mine(key) else self.live.get(key)
            if raw is None:
                self._seen.pop(key, None)
                continue
            state = self._read(key, raw)
            if state is None:
                continue
            if state.owner is None:
                self._list(key, state.due, now)
            elif self._dead(key, raw, state.owner):
                freed = replace(state, owner=None, due=now, interrupted=True, repeated=state.repeated + 1)
                if self.live.swap(key, raw, freed.packed()):
                    self.live.push(key)
        for gone in self._seen.keys() - set(keys):
            self._seen.pop(gone, None)
        return set(keys)

    def _list(self, key: str, due: float, now: float) -> None:
        if due <= now:
            self.live.push(key)
        else:
            self.live.later(key, due)

    def _dead(self, key: str, raw: bytes, owner: Owner) -> bool:
        """Whether the owner is gone, or has given no sign of life for the lease that it has claimed."""
        if certainly_gone(owner):
            return True
        signs, now = (raw, self.calls.get(f"{key}.beat")), CLOCK.monotonic()
        seen = self._seen.get(key)
        if seen is None or seen[0] != signs:
            self._seen[key] = signs, now
            return False
        return now - seen[1] >= owner.lease

    def purge(self) -> bool:
        """Forget outcomes whose time is over, for a moment; whether there are more."""
        until = time.monotonic() + _PURGE_SECONDS
        while self.done.forget(time.time(), _BATCH) == _BATCH:
            if time.monotonic() >= until:
                return True
        return False

    def tidy(self) -> None:
        """Once per process: find what one that died has left half done."""
        calls = {key.partition(".")[0] for key in self.calls.keys()}  # noqa: SIM118 - a method of ours, not a dict's
        for key in calls - set(self.live.keys()):
            if _born(key) < time.time() - _ORPHAN_AGE:  # younger ones may just be on their way
                self._clear(key)
        scheduled = self.done.listed()
        for key in set(self.done.keys()) - scheduled:
            self.done.later(key, time.time() + self._result_ttl)

    @property
    def stores(self) -> tuple[Store, ...]:
        """Where the book is kept."""
        return self.live, self.calls, self.done

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        for store in self.stores:
            store.close()

    def in_child(self) -> None:
        """Begin anew in a forked child."""
        for store in self.stores:
            store.in_child()
        self._seen.clear()


def _same_process(one: State, other: State) -> bool:
    return one.owner is not None and other.owner is not None and one.owner[:3] == other.owner[:3]


def _born(key: str) -> float:
    """When an id was made; never, for what is none of ours."""
    try:
        return int(key[:14], 16) / 1e6
    except ValueError:
        return float("inf")


# Outcomes as bytes ----------------------------------------------------------------------------------


def packed_outcome(outcome: Outcome) -> bytes:
    """The outcome as bytes, with a stand-in for what cannot be pickled."""
    try:
        raw = pickle.dumps(tuple(outcome))
        if outcome.error is not None:
            pickle.loads(raw)  # noqa: S301 - our own bytes: some exceptions can be pickled and not be made again
        return raw
    except Exception:
        return pickle.dumps(tuple(outcome._replace(answer=None, error=_stand_in(outcome))))


def _stand_in(outcome: Outcome) -> ResilienceError:
    if outcome.error is not None:
        return ResilienceError(described(outcome.error))
    kind = type(outcome.answer).__name__
    return Unreadable(f"the call succeeded, but its answer, a {kind}, cannot be pickled for another process to read")


class Unreadable(ConfigurationError):
    """The call has succeeded, and its answer stayed in the process that made it."""


def unpacked_outcome(raw: bytes) -> Outcome:
    """The outcome in these bytes."""
    try:
        return Outcome(*pickle.loads(raw))  # noqa: S301 - the file or server holds the pickled calls anyway
    except Exception as error:
        failure = Unreadable(f"the call has ended, but what it gave cannot be read here ({described(error)})")
        return Outcome(None, failure, 0, 0)
