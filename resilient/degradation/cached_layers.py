"""The layers of `@degrade` where its cache is a `CachedDegradation`.

fresh answer? -> serve it
spared by the manager? -> answer otherwise
else: join the flight of this key
    the first: call; what comes of it is kept, and told to the others
    the others: what is there, or what the first one got; where its call failed, each answers for itself
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilient.clock import CLOCK
from resilient.deadlines import remaining_time
from resilient.degradation.copies import copied
from resilient.degradation.entries import Entry
from resilient.degradation.flights import NOTHING, Flight, Outcome, take, waiting_for
from resilient.degrade.caches import MISSING, NOTES, Notes
from resilient.degrade.keys import Unkeyable
from resilient.errors import CallTimeoutError, RejectedError
from resilient.generators import Layer
from resilient.policy import running_loop

if TYPE_CHECKING:
    from resilient.degradation.cached import CachedAnswers, CachedDegradation
    from resilient.degrade import Degradation
    from resilient.degrade.caches import Place


def sync_layer(cached: CachedDegradation, policy: Degradation, call: Layer, place: Place) -> Layer:
    """Serve a fresh answer, or have one made."""
    answers: Any = place.cache
    keys, read, tally, fresh, ttl = answers.keys, cached.store.read, cached.tally, cached.fresh, cached.cache_ttl
    refresher = _Refresher(cached, policy, place, policy.guarding(_storing(answers, call, place), place, spares=False))
    refresh, notes = refresher.refresh, NOTES.get

    def cache(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            key = keys(args, kwargs)
        except Unkeyable:
            tally.misses += 1
            return refresh(MISSING, args, kwargs)
        entry = read(key)
        # The first is the same as `fresh` for the usual case, without the call.
        answer = entry[1] if type(entry) is Entry and 0 <= CLOCK.monotonic() - entry[0] < ttl else fresh(entry)
        if answer is MISSING:
            tally.misses += 1
            return refresh(key, args, kwargs)
        tally.hits += 1
        if notes() is not None:
            place.tell_of_fresh()
        return answer

    return cache


def async_layer(cached: CachedDegradation, policy: Degradation, call: Layer, place: Place) -> Layer:
    """Serve a fresh answer, or have one made."""
    answers: Any = place.cache
    store, keys, tally, fresh, ttl = cached.store, answers.keys, cached.tally, cached.fresh, cached.cache_ttl
    refresher = _Refresher(
        cached, policy, place, policy.aguarding(_astoring(answers, call, place), place, spares=False)
    )
    refresh, notes = refresher.arefresh, NOTES.get
    is_mapping = store.is_mapping

    async def cache(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            key = keys(args, kwargs)
        except Unkeyable:
            tally.misses += 1
            return await refresh(MISSING, args, kwargs)
        entry = store.read(key) if is_mapping else await store.aread(key)
        answer = entry[1] if type(entry) is Entry and 0 <= CLOCK.monotonic() - entry[0] < ttl else fresh(entry)
        if answer is MISSING:
            tally.misses += 1
            return await refresh(key, args, kwargs)
        tally.hits += 1
        if notes() is not None:
            place.tell_of_fresh()
        return answer

    return cache


class _Refresher:
    """Has the answer of a key made once for all who ask for it."""

    __slots__ = ("cached", "degrade", "health", "place", "policy")

    def __init__(self, cached: CachedDegradation, policy: Degradation, place: Place, degrade: Layer) -> None:
        self.cached = cached
        self.policy = policy
        self.place = place
        self.degrade = degrade
        self.health = policy.health()

    def _alone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make a call that has no key."""
        mine = Flight()
        try:
            mine.enter()
            return self.degrade(args, kwargs)
        finally:
            mine.leave()

    async def _aalone(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make a call that has no key."""
        mine = Flight()
        try:
            mine.enter()
            return await self.degrade(args, kwargs)
        finally:
            mine.leave()

    def refresh(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the call, or wait for the one under way; `key` is MISSING for a call that has none."""
        if self._spared():
            answer = self.policy.serve_spared(self.place, self.health, args, kwargs)
            if answer is not MISSING:
                return answer
        if key is MISSING or not _is_hashable(key):
            return self._alone(args, kwargs)
        cached, flights = self.cached, self.cached.flights
        mine, outcome = Flight(), None
        # A sync call must not wait inside an event loop, perhaps the very one that is to answer.
        patient = running_loop() is None
        try:
            mine.enter()
            while True:
                flight = self._join(key, mine)
                if flight is None:
                    return self.degrade(args, kwargs)
                if flight is mine:
                    answer = cached.fresh(cached.store.read(key))
                    return self.degrade(args, kwargs) if answer is MISSING else self._just_made(answer)
                answer = cached.stale(cached.store.read(key))
                if answer is not MISSING:
                    return self.policy.cached(self.place, answer, None)
                with waiting_for(flight, mine) as may_wait:
                    if not may_wait or not patient:
                        return self.degrade(args, kwargs)
                    try:
                        outcome = flight.wait(self._patience())
                    except TimeoutError:
                        outcome = self._too_late()
                        patient = False
                if not patient and outcome is NOTHING:
                    self._give_up(key, flight)
                elif outcome is not NOTHING:
                    return self._shared(outcome, args, kwargs)
        finally:
            outcome = None  # an error's traceback has this frame, and the outcome has the error
            try:
                flights.end(key, mine)
            finally:
                mine.leave()

    async def arefresh(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Make the call, or wait for the one under way; `key` is MISSING for a call that has none."""
        if self._spared():
            answer = await self.policy.aserve_spared(self.place, self.health, args, kwargs)
            if answer is not MISSING:
                return answer
        if key is MISSING or not _is_hashable(key):
            return await self._aalone(args, kwargs)
        cached, flights = self.cached, self.cached.flights
        mine, outcome = Flight(), None
        patient = running_loop() is not None  # trio has none to wait in
        try:
            mine.enter()
            while True:
                flight = self._join(key, mine)
                if flight is None:
                    return await self.degrade(args, kwargs)
                if flight is mine:
                    answer = cached.fresh(await cached.store.aread(key))
                    return await self.degrade(args, kwargs) if answer is MISSING else self._just_made(answer)
                answer = cached.stale(await cached.store.aread(key))
                if answer is not MISSING:
                    return self.policy.cached(self.place, answer, None)
                with waiting_for(flight, mine) as may_wait:
                    if not may_wait or not patient:
                        return await self.degrade(args, kwargs)
                    try:
                        outcome = await flight.await_outcome(self._patience())
                    except TimeoutError:
                        outcome = self._too_late()
                        patient = False
                if not patient and outcome is NOTHING:
                    self._give_up(key, flight)
                elif outcome is not NOTHING:
                    return await self._ashared(outcome, args, kwargs)
        finally:
            outcome = None  # an error's traceback has this frame, and the outcome has the error
            try:
                flights.end(key, mine)
            finally:
                mine.leave()

    def _join(self, key: Any, mine: Flight) -> Flight | None:
        """The flight of this key, None where the key cannot be compared with others."""
        try:
            return self.cached.flights.join(key, mine)
        except Exception:
            return None

    def _give_up(self, key: Any, flight: Flight) -> None:
        """The call hangs: let another be made, and its answer, should it come, not take the place of a newer one."""
        flight.discarded = True
        self.cached.flights.end(key, flight)

    def _just_made(self, answer: Any) -> Any:
        """An answer that came while this caller was getting ready to call."""
        self.place.tell_of_fresh()
        return answer

    def _spared(self) -> bool:
        health = self.health
        return health is not None and health.gate and not health.admit()

    def _patience(self) -> float | None:
        """How long to wait for another caller's call."""
        left, most = remaining_time(), self.cached.max_wait
        return most if left is None else left if most is None else min(left, most)

    def _too_late(self) -> Outcome:
        """What a caller gets who has waited too long: to call by itself, or, after its deadline, an error."""
        left = remaining_time()
        if left is None or left > 0:
            return NOTHING
        text = "the answer that another caller waits for did not come before the deadline"
        return Outcome(error=CallTimeoutError(self.policy.name, 0.0, text))

    def _shared(self, outcome: Outcome, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer with what came of another caller's call."""
        if outcome.error is None:
            return self._good(outcome)
        error = _own(outcome.error)
        try:
            if self.policy.handles(error):
                answer = self.policy.serve(self.place, error, args, kwargs)
                if answer is not MISSING:
                    return answer
            else:
                self.policy.tally.failed += 1
            raise error
        finally:
            del error, outcome

    async def _ashared(self, outcome: Outcome, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer with what came of another caller's call."""
        if outcome.error is None:
            return self._good(outcome)
        error = _own(outcome.error)
        try:
            if self.policy.handles(error):
                answer = await self.policy.aserve(self.place, error, args, kwargs)
                if answer is not MISSING:
                    return answer
            else:
                self.policy.tally.failed += 1
            raise error
        finally:
            del error, outcome

    def _good(self, outcome: Outcome) -> Any:
        self.policy.tally.succeeded += 1
        if not outcome.genuine:
            self.place.tell_the_cache_around()
        return outcome.answer


#: What policies note on an error for themselves.
_OURS = ("_by", "_due", "_resilient_exhausted", "_worker")


def _own(error: Exception) -> Exception:
    """The error of another caller's call for a caller of its own: a copy, where one can be made.

    Else the traceback of the one object would grow with every caller, and what one does with it would reach the others.
    """
    return copied(error, _OURS) or error


def _failure(error: Exception) -> Outcome:
    """What others are told of a failed call: nothing, where it was cut short by its own caller's deadline."""
    if isinstance(error, CallTimeoutError) and error._due is not None:
        return NOTHING
    cut_short = isinstance(error, (CallTimeoutError, RejectedError)) and remaining_time() is not None
    return NOTHING if cut_short or remaining_time() == 0 else Outcome(error=error)


def _storing(answers: CachedAnswers, call: Layer, place: Place) -> Layer:
    """Make the call, keep a good answer, and tell those who wait."""
    cached = answers.cached

    def store(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flight, key = take() or Flight(), answers.key_to_store(args, kwargs)
        with cached.flights.calling(key, flight):
            try:
                with Notes() as notes:
                    answer = call(args, kwargs)
            except Exception as error:
                flight.land(_failure(error))
                del flight  # the error's traceback has this frame, and the flight has the error
                raise
            if notes.left:
                place.tell_the_cache_around()
            elif key is not MISSING and flight.may_be_kept():
                cached.store.write(key, cached.entry(answer))
                if not flight.may_be_kept():  # deleted in this very moment
                    cached.store.remove(key)
            flight.land(Outcome(answer, genuine=not notes.left))
        return answer

    return store


def _astoring(answers: CachedAnswers, call: Layer, place: Place) -> Layer:
    """Make the call, keep a good answer, and tell those who wait."""
    cached = answers.cached

    async def store(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flight, key = take() or Flight(), answers.key_to_store(args, kwargs)
        with cached.flights.calling(key, flight):
            try:
                with Notes() as notes:
                    answer = await call(args, kwargs)
            except Exception as error:
                flight.land(_failure(error))
                del flight  # the error's traceback has this frame, and the flight has the error
                raise
            if notes.left:
                place.tell_the_cache_around()
            elif key is not MISSING and flight.may_be_kept():
                await cached.store.awrite(key, cached.entry(answer))
                if not flight.may_be_kept():  # deleted in this very moment
                    await cached.store.aremove(key)
            flight.land(Outcome(answer, genuine=not notes.left))
        return answer

    return store


def _is_hashable(key: Any) -> bool:
    try:
        hash(key)
    except Exception:
        return False
    return True
