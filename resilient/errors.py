"""Everything `resilient` raises on its own account; your own exceptions pass through unchanged.

    ResilienceError
    ├── ConfigurationError          a policy was described wrongly (also a ValueError)
    │   └── UnknownNameError        nothing is registered under that name (also a KeyError)
    ├── RejectedError               the call was not made
    │   ├── CircuitOpenError
    │   ├── BulkheadFullError
    │   └── BulkheadClosedError
    ├── CallTimeoutError            the call did not finish in time (also a TimeoutError)
    ├── RetriesExhaustedError       the last *result* was still one to retry
    └── DegradationError            the call failed, and so did every fallback

Each is made anew for each raise, carries data, and survives pickling.
"""

from __future__ import annotations

from typing import Any


class ResilienceError(Exception):
    """Base of all errors raised by this package."""

    retryable = False

    def is_retryable(self) -> bool:
        """Whether making the same call again may help; `@retry` never retries where this is False."""
        return self.retryable


class ConfigurationError(ResilienceError, ValueError):
    """An option has a value that cannot work; the message names the option, the value, and what would do."""


class UnknownNameError(ConfigurationError, KeyError):
    """Nothing goes by the name given; the message lists the names there are."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # a KeyError would show the message in quotes


class RejectedError(ResilienceError):
    """The call was turned away before it was made.

    `name` is the policy's; `retry_after` the seconds until a call may be let through, None when nobody can know.
    """

    # Slots spare a rejection the dictionary.
    __slots__ = ("name", "retry_after")
    retryable = True
    what = "rejected the call"

    def __init__(self, name: str, retry_after: float | None = None) -> None:
        # Not super().__init__(): the same for a third of the price, and a rejection is to be cheap.
        self.args = (name, retry_after)
        self.name = name
        self.retry_after = retry_after

    def __str__(self) -> str:
        hint = "" if self.retry_after is None else f"; retry after {self.retry_after:.3g} s"
        return f"{self.name}: {self.what}{hint}"


class CircuitOpenError(RejectedError):
    """The circuit breaker is open or isolated, or half-open with all its probes under way."""

    what = "the circuit is open"


class BulkheadFullError(RejectedError):
    """No place became free within `max_wait`, or the queue was full."""

    what = "the bulkhead is full"


class BulkheadClosedError(RejectedError):
    """The bulkhead was closed for good; trying again cannot help."""

    retryable = False
    what = "the bulkhead is closed"


class CallTimeoutError(ResilienceError, TimeoutError):
    """The call did not finish within `limit` seconds.

    `name` is the policy's. A sync call's thread may go on working: `policy.abandoned` counts those.
    """

    retryable = True
    # The still running worker, for a bulkhead further out that keeps its place; never pickled.
    _worker: Any = None
    # The deadline that made the limit shorter than the policy's own, so that its owner knows its own doing.
    _due: float | None = None
    # The policy that raised it, which may go by the name of another.
    _by: Any = None

    def __init__(self, name: str, limit: float, detail: str = "") -> None:
        # TimeoutError is an OSError, which would take two arguments for errno and strerror.
        self.args = (name, limit, detail) if detail else (name, limit)
        self.name = name
        self.limit = limit
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args

    def __str__(self) -> str:
        return f"{self.name}: {self.detail or f'no answer within {self.limit:.3g} s'}"


class RetriesExhaustedError(ResilienceError):
    """Every attempt returned a result that `retry_on_result` refuses; `result` is the last, `attempts` how many."""

    def __init__(self, name: str, attempts: int, result: object = None) -> None:
        super().__init__(name, attempts, result)
        self.name = name
        self.attempts = attempts
        self.result = result

    def __str__(self) -> str:
        # The result may hold anything, so only its type is shown.
        return f"{self.name}: after {self.attempts} attempts the result, a {type(self.result).__name__}, is refused"


class DegradationError(ResilienceError):
    """The call failed and no fallback answered; raised `from` the call's error. `errors` lists it and theirs.

    Without errors, the call was not made: its service is spared, and there was nothing to answer with.
    """

    def __init__(self, name: str, errors: tuple[BaseException, ...] = ()) -> None:
        super().__init__(name, errors)
        self.name = name
        self.errors = errors

    def __str__(self) -> str:
        if not self.errors:
            return f"{self.name}: the service is spared, and nothing else has an answer"
        kinds = ", ".join(type(error).__name__ for error in self.errors)
        return f"{self.name}: the call and its fallbacks failed ({kinds})"


def is_retryable(error: BaseException) -> bool:
    """What the error says of itself: its `is_retryable()`, True where it has none."""
    ask = getattr(error, "is_retryable", None)
    return True if ask is None or not callable(ask) else bool(ask())
