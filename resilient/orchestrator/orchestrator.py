"""The one door: plans and executors come in, executions are started, watched, decided about and looked up."""

from __future__ import annotations

import asyncio
import getpass
import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

from resilient import _checks as check
from resilient._registry import Registry
from resilient._registry import registry as the_registry
from resilient.errors import ConfigurationError
from resilient.events import log_failure
from resilient.orchestrator import references, validation
from resilient.orchestrator.attempts import plain_json
from resilient.orchestrator.embedded import EmbeddedEngine
from resilient.orchestrator.engine import Answer, Engine, JournalEntry, Order
from resilient.orchestrator.errors import PlanInvalidError, PlanNotFoundError, RecoveryError
from resilient.orchestrator.events import RecoveryEvent, RecoveryEventType
from resilient.orchestrator.executor import Adapted, adapted
from resilient.orchestrator.journal import Journal
from resilient.orchestrator.memory_journal import MemoryJournal
from resilient.orchestrator.model import (
    ExecutionStatus,
    RecoveryExecution,
    RecoveryPlan,
    RecoveryStepType,
    step_type,
)
from resilient.orchestrator.outcomes import Waiter, error_of, in_thread
from resilient.orchestrator.subscribers import RecoverySubscription, Subscribers
from resilient.orchestrator.triggers import Trigger
from resilient.policy import warn_if_loop_blocked

_log = logging.getLogger("resilient.orchestrator")

F = TypeVar("F", bound=Callable[..., Any])


class RecoveryOrchestrator:
    """Carries out recovery plans: steps in order, side by side where they can be, undone where they must be.

    `journal` keeps what happens; with a `SqliteJournal` an execution survives the death of its process, and
    `resume_pending()` goes on with it.
    `lease` is how long in seconds a process may give no sign of life before others may take over its executions; it
    is renewed three times within.
    `registry` has the breakers of `on_open`; `engine` replaces the embedded engine, and then has a journal of its own.

    Methods block; those with an `a` in front are awaited, and run async executors in the caller's event loop.
    """

    def __init__(
        self,
        journal: Journal | None = None,
        *,
        lease: float | timedelta = 10.0,
        registry: Registry | None = None,
        engine: Engine | None = None,
    ) -> None:
        if engine is not None and journal is not None:
            raise TypeError("journal=, engine=: an engine has a journal of its own; give one of the two")
        lease = check.seconds("lease", lease, positive=True)
        _check_part("journal", journal, "take_over", "a journal, such as SqliteJournal(path) or MemoryJournal()")
        _check_part("engine", engine, "submit", "an engine")
        _check_part("registry", registry, "subscribe", "a registry, such as resilient.registry")
        self._registry = the_registry if registry is None else registry
        self._lock = threading.RLock()
        self._plans: dict[str, RecoveryPlan] = {}
        self._executors: dict[str, Adapted] = {}
        self._shipped: dict[str, Adapted] | None = None
        self._subscribers = Subscribers()
        self._triggers: list[Trigger] = []
        self._engine: Engine = EmbeddedEngine(MemoryJournal() if journal is None else journal, lease)
        if engine is not None:
            self._engine = engine
        self._engine.attach(_Host(self))

    # Executors and plans

    def register_step_executor(self, step_type: RecoveryStepType | str, executor: Any, *, rollback: Any = None) -> None:
        """Say who carries out a type of step; a later registration replaces an earlier, or a shipped one.

        `executor` is an object with `execute(step, context)` and, where it can, `rollback(step, context)`,
        `can_execute(step_type)` and `problems(step)`; or a function `(step, context)`, for which `rollback` may be
        another. Sync functions run in threads, async ones as tasks. Raises TypeError for anything else.
        """
        name = _type_name(step_type)
        ready = adapted(executor, rollback, step_type=name)
        with self._lock:
            self._executors[name] = ready

    def step(self, step_type: RecoveryStepType | str, *, rollback: Any = None) -> Callable[[F], F]:
        """Decorator: `@orchestrator.step("warm-cache", rollback=undo)` registers a function for a custom type."""

        def register(function: F) -> F:
            self.register_step_executor(step_type, function, rollback=rollback)
            return function

        return register

    @property
    def executors(self) -> Mapping[str, Adapted]:
        """What is registered, by type of step; the shipped ones included."""
        return MappingProxyType({**self._shipped_executors(), **self._executors})

    def _executor(self, type_name: str) -> Adapted | None:
        found = self._executors.get(type_name)
        return self._shipped_executors().get(type_name) if found is None else found

    def _shipped_executors(self) -> dict[str, Adapted]:
        # Imported when first needed: they bring HTTP, subprocesses and databases.
        if self._shipped is None:
            from resilient.orchestrator.executors import shipped

            ready = shipped(self._registry).items()
            self._shipped = {kind.value: adapted(executor, step_type=kind.value) for kind, executor in ready}
        return self._shipped

    def register_plan(self, plan: RecoveryPlan) -> None:
        """Make a plan known by its id, in the place of an earlier one; its executors must be registered before.

        Raises PlanInvalidError with everything that is wrong with it: CircularDependencyError where that is only
        cycles, NoExecutorError where that is only missing executors.
        """
        _check_plan(plan)
        validation.check(plan, self._executor)
        with self._lock:
            self._plans[plan.id] = plan

    @property
    def plans(self) -> Mapping[str, RecoveryPlan]:
        """The registered plans by id."""
        return MappingProxyType(dict(self._plans))

    # Starting

    def execute_plan(self, plan_id: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Carry out a plan and wait for its end; returns the execution's id.

        Raises the RecoveryError that ended it, with its `execution_id`, where the execution did not complete;
        PlanNotFoundError, PlanInvalidError (a parameter is missing) or PlanLockedError where it did not begin.
        Interrupted by Ctrl-C, the execution goes on in its thread: `cancel_execution` ends it.
        """
        warn_if_loop_blocked("execute_plan waits")
        waiter = Waiter()
        execution_id = self._submit(plan_id, parameters, waiter)
        waiter.wait()
        self._subscribers.drain()
        self._raise_unless_completed(execution_id, waiter)
        return execution_id

    async def aexecute_plan(self, plan_id: str, parameters: Mapping[str, Any] | None = None) -> str:
        """As `execute_plan`; async executors run in this event loop.

        When the waiting task is cancelled, the execution is cancelled and undone before the cancellation goes on;
        a second cancellation does not wait for that.
        """
        waiter = Waiter()
        loop = asyncio.get_running_loop()
        try:
            execution_id = await in_thread(lambda: self._submit(plan_id, parameters, waiter, home=loop))
            await waiter.awaited()
        except asyncio.CancelledError:
            waiter.leave(self._cancel_quietly)
            await waiter.awaited()
            raise
        await in_thread(self._subscribers.drain)
        await in_thread(lambda: self._raise_unless_completed(execution_id, waiter))
        return execution_id

    def start_plan(self, plan_id: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Begin to carry out a plan, and return the execution's id at once; `wait_for` waits for the end."""
        return self._submit(plan_id, parameters, None)

    async def astart_plan(self, plan_id: str, parameters: Mapping[str, Any] | None = None) -> str:
        """As `start_plan`; async executors run in this event loop, which must go on running."""
        loop = asyncio.get_running_loop()
        return await in_thread(lambda: self._submit(plan_id, parameters, None, home=loop))

    def _submit(
        self,
        plan_id: str,
        parameters: Mapping[str, Any] | None,
        waiter: Waiter | None,
        *,
        home: asyncio.AbstractEventLoop | None = None,
        trigger: str = "",
    ) -> str:
        try:
            plan = self._plan(plan_id)
            given = self._checked_parameters(plan, parameters)
        except BaseException as error:
            if waiter is not None:
                waiter.done(error)
            raise
        execution_id = f"{plan.id}-{secrets.token_hex(6)}"
        order = Order(execution_id, plan, given, trigger, home)
        if waiter is None:
            self._engine.submit(order, _ignore)
            return execution_id
        try:
            self._engine.submit(order, waiter.done)
        except BaseException as error:
            waiter.done(error)
            raise
        waiter.begun(execution_id)
        return execution_id

    def _cancel_quietly(self, execution_id: str) -> None:
        try:
            self.cancel_execution(execution_id, "the task that waited for it was cancelled")
        except Exception:
            text, event = "execution %s could not be cancelled", "orchestrator.not_cancelled"
            log_failure(_log, event, text, execution_id, kind="recovery", limited=False, execution_id=execution_id)

    def _plan(self, plan_id: Any) -> RecoveryPlan:
        try:
            return self._plans[plan_id]
        except (KeyError, TypeError):
            known = ", ".join(map(repr, self._plans)) or "none"
        error = PlanNotFoundError(f"no plan is registered as {plan_id!r}; registered: {known}")
        error.concerning(plan_id=plan_id if isinstance(plan_id, str) else None)
        raise error

    def _checked_parameters(self, plan: RecoveryPlan, parameters: Any) -> dict[str, Any]:
        """The parameters as a journal holds them: JSON's own types."""
        heading = f"plan {plan.id!r} cannot be started"
        if parameters is not None and not isinstance(parameters, Mapping):
            raise TypeError(
                f"parameters: must be a mapping of names to JSON-ready values, not {type(parameters).__name__}"
            )
        given = {}
        problems = []
        for name, value in (parameters or {}).items():
            try:
                given[name] = plain_json(value)
            except Exception:
                kind = type(value).__name__
                problems.append(f"parameters.{name}: expected JSON-ready values, got a {kind} that is not")
            if not isinstance(name, str):
                problems.append(f"parameters: names must be strings, not {type(name).__name__}")
        problems += references.missing(plan, given) if not problems else []
        if problems:
            error = PlanInvalidError(problems, heading)
            error.concerning(plan_id=plan.id)
            raise error
        return given

    def _raise_unless_completed(self, execution_id: str, waiter: Waiter) -> None:
        execution = self._engine.status(execution_id)
        if execution.status is ExecutionStatus.COMPLETED:
            return
        if not execution.status.ended:
            raise waiter.reason(execution)
        raise error_of(execution, self._engine.entries(execution_id)) from waiter.error

    # Waiting and looking

    def wait_for(self, execution_id: str, timeout: float | None = None) -> RecoveryExecution:
        """Wait until an execution has ended, in this process or another; as it is after `timeout` seconds, if given.

        Raises the RecoveryError for which this process lets go of it meanwhile, such as PlanLockedError where another
        has taken it over; who asks again waits for that one.
        """
        warn_if_loop_blocked("wait_for waits")
        found = self._engine.wait(_text("execution_id", execution_id), check.optional_seconds("timeout", timeout))
        self._subscribers.drain()
        return found

    async def await_for(self, execution_id: str, timeout: float | None = None) -> RecoveryExecution:
        """As `wait_for`."""
        return await in_thread(lambda: self.wait_for(execution_id, timeout))

    def get_execution_status(self, execution_id: str) -> RecoveryExecution:
        """A picture of an execution as the journal has it; ExecutionNotFoundError for an unknown id."""
        return self._engine.status(_text("execution_id", execution_id))

    def history(
        self, plan_id: str | None = None, *, limit: int = 50, before: str | None = None
    ) -> list[RecoveryExecution]:
        """The latest executions, newest first; of one plan, if given.

        For the next page, `before` is the id of the last one of this page.
        """
        plan_id = None if plan_id is None else _text("plan_id", plan_id)
        before = None if before is None else _text("before", before)
        return list(self._engine.history(plan_id, check.count("limit", limit), before))

    def entries(self, execution_id: str) -> Sequence[JournalEntry]:
        """Everything the journal has about an execution, oldest first: every attempt, who approved, who cancelled."""
        return self._engine.entries(_text("execution_id", execution_id))

    def plan_of(self, execution_id: str) -> RecoveryPlan:
        """The plan of an execution as it was when that began."""
        return self._engine.plan_of(_text("execution_id", execution_id))

    # Deciding

    def cancel_execution(
        self, execution_id: str, reason: str = "", *, by: str | None = None, rollback: bool = True
    ) -> bool:
        """Ask for the end of an execution, from any process: nothing new is started, and what runs is cancelled.

        What was done is undone, unless `rollback` is False. Returns at once; False where it had ended already.
        One that is being undone already, as a step failed, goes on with that and ends as it would have.
        """
        check.flag("rollback", rollback)
        who = _text("by", _user() if by is None else by)
        reason, execution_id = _text("reason", reason), _text("execution_id", execution_id)
        return self._engine.cancel(execution_id, reason=reason, by=who, rollback=rollback)

    def approve(self, execution_id: str, step_id: str, *, by: str, note: str = "") -> None:
        """Let a step that waits for a decision go on; from any process. Who and why are kept in the journal.

        Raises ExecutionNotFoundError for an unknown id, RecoveryError where the step does not wait for it.
        """
        self._answer(execution_id, step_id, by, note, approved=True)

    def reject(self, execution_id: str, step_id: str, *, by: str, note: str = "") -> None:
        """Refuse a step that waits for a decision: it has failed. Otherwise as `approve`."""
        self._answer(execution_id, step_id, by, note, approved=False)

    def _answer(self, execution_id: str, step_id: str, by: str, note: str, *, approved: bool) -> None:
        answer = Answer(_text("step_id", step_id), approved, _who(by), _text("note", note))
        self._engine.signal(_text("execution_id", execution_id), answer)

    def resume_pending(self, *, wait: bool = True) -> list[str]:
        """Take over executions whose process has died, once their leases have ended; returns their ids.

        Completed steps are not run again, a step that was under way follows its `in_doubt`, and a rollback goes on.
        With `wait`, this returns when each of them has ended or waits for a person. May be called again and again.
        Warns about executions for which an executor or the plan is missing here.
        """
        check.flag("wait", wait)
        taken = self._engine.resume_pending()
        if wait:
            for execution_id in taken:
                with suppress(RecoveryError):  # it was let go of; its status says how far it has come
                    self._engine.wait(execution_id, or_blocked=True)
            self._subscribers.drain()
        return taken

    async def aresume_pending(self, *, wait: bool = True) -> list[str]:
        """As `resume_pending`; async executors run in an event loop of the engine's own."""
        return await in_thread(lambda: self.resume_pending(wait=wait))

    # Listening

    def subscribe(
        self, handler: Callable[[RecoveryEvent], object], *event_types: RecoveryEventType
    ) -> RecoverySubscription:
        """Call `handler(event)` for each event of these types (of all, if none is named), in order.

        Each handler has a thread of its own; an async one runs in the event loop it was subscribed in, if there is
        one. Handlers that fail are logged, and one that hangs holds up nobody.
        Returns a callable that unsubscribes, which is a context manager too.
        """
        return self._subscribers.add(handler, event_types)

    def on_open(
        self,
        breaker_name: str,
        *,
        plan: str,
        parameters: Mapping[str, Any] | None = None,
        after: float = 0.0,
        cooldown: float = 300.0,
    ) -> Trigger:
        """Start a plan when a breaker of the registry opens and is still not closed after `after` seconds.

        It is started once at a time, and not again within `cooldown` seconds after it has ended; other processes that
        share the journal included. When it completes, the breaker lets a probe through at once.
        Returns a callable that ends this, which is a context manager too.
        """
        registered = self._plan(plan)
        given = self._checked_parameters(registered, parameters)
        if not _text("breaker_name", breaker_name):
            raise check.bad("breaker_name", breaker_name, "must be the name of a circuit breaker")
        trigger = Trigger(
            self,
            self._registry,
            breaker_name,
            plan,
            start=lambda: self._submit(plan, given, None, trigger=breaker_name),
            after=check.seconds("after", after),
            cooldown=check.seconds("cooldown", cooldown),
        )
        with self._lock:
            self._triggers = [one for one in self._triggers if one.active] + [trigger]
        return trigger

    # Leaving

    def close(self, *, leaving: bool = False) -> None:
        """Let go of executions under way, so that any process may resume them, and of the journal.

        That is at once, except where a sync step is still at work, which nobody is to repeat meanwhile: then it is when
        the lease has ended. `leaving` says that this process ends now, and its threads with it.
        """
        with self._lock:
            triggers, self._triggers = self._triggers, []
        for trigger in triggers:
            trigger()
        self._engine.close(leaving=leaving)

    def __enter__(self) -> RecoveryOrchestrator:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Host:
    """What the engine sees of the orchestrator."""

    def __init__(self, orchestrator: RecoveryOrchestrator) -> None:
        self._orchestrator = orchestrator

    def executor(self, type_name: str) -> Adapted | None:
        return self._orchestrator._executor(type_name)

    def plan(self, plan_id: str) -> RecoveryPlan | None:
        return self._orchestrator._plans.get(plan_id)

    def publish(self, event: RecoveryEvent) -> None:
        self._orchestrator._subscribers.publish(event)


def _ignore(error: BaseException | None) -> None:
    """Nobody waits for this one."""


def _type_name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"step_type={value!r}: must be a RecoveryStepType, or the name of a custom type")
    name = str(step_type(value))
    if name == RecoveryStepType.APPROVAL.value:
        raise ConfigurationError("step_type='approval': is decided by people (approve, reject), and has no executor")
    return name


def _check_part(option: str, given: Any, method: str, what: str) -> None:
    """Refuse what cannot be a part of an orchestrator. It is not shown: it may be a URL with a password."""
    if given is not None and (isinstance(given, type) or not callable(getattr(given, method, None))):
        kind = f"the class {given.__name__}" if isinstance(given, type) else f"a {type(given).__name__}"
        raise TypeError(f"{option}: must be {what}, not {kind}")


def _check_plan(plan: Any) -> None:
    if not isinstance(plan, RecoveryPlan):
        kind = type(plan).__name__
        raise TypeError(f"plan: must be a RecoveryPlan, not a {kind}; RecoveryPlan.load(path) reads one from a file")


def _text(option: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{option}={value!r}: must be a string")
    return value


def _who(by: str) -> str:
    if not _text("by", by).strip():
        raise check.bad("by", by, "must say who decided this, as it is kept in the journal")
    return by.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a process without a user's name
        return ""
