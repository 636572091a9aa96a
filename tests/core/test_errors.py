"""Every error survives pickling and copying, and says itself whether to try again."""

import copy
import inspect
import pickle

import pytest

from resilient import errors
from resilient.errors import is_retryable

SAMPLES = {
    "ResilienceError": (errors.ResilienceError("text"), False),
    "ConfigurationError": (errors.ConfigurationError("limit=-1: must be more"), False),
    "UnknownNameError": (errors.UnknownNameError("service='x': not registered; known: y"), False),
    "RejectedError": (errors.RejectedError("n", 1.5), True),
    "CircuitOpenError": (errors.CircuitOpenError("n", 2.5), True),
    "BulkheadFullError": (errors.BulkheadFullError("n"), True),
    "BulkheadClosedError": (errors.BulkheadClosedError("n"), False),
    "CallTimeoutError": (errors.CallTimeoutError("n", 2.0, "too many"), True),
    "RetriesExhaustedError": (errors.RetriesExhaustedError("n", 3, ["poor"]), False),
    "DegradationError": (errors.DegradationError("n", (ValueError("a"), KeyError("b"))), False),
}
every_error = pytest.mark.parametrize(("error", "retryable"), SAMPLES.values(), ids=SAMPLES)


def test_samples_are_complete():
    """The table above has every error there is."""
    classes = {name for name, thing in vars(errors).items() if inspect.isclass(thing) and issubclass(thing, Exception)}
    assert classes == set(SAMPLES)


WAYS = [
    *((lambda error, p=p: pickle.loads(pickle.dumps(error, p))) for p in range(pickle.HIGHEST_PROTOCOL + 1)),  # noqa: S301
    copy.copy,
    copy.deepcopy,
]


@every_error
@pytest.mark.parametrize("way", WAYS)
def test_copies(error, retryable, way):
    """A copy is a new object of the same class, with the same text and the same data."""
    clone = way(error)
    assert clone is not error
    assert (type(clone), str(clone)) == (type(error), str(error))
    for name in ("name", "retry_after", "limit", "detail", "attempts", "result"):
        assert getattr(clone, name, None) == getattr(error, name, None)
    assert list(map(repr, getattr(clone, "errors", ()))) == list(map(repr, getattr(error, "errors", ())))
    assert clone.is_retryable() is retryable


def test_worker_is_not_pickled():
    """The still running worker that a timeout's error carries for policies further out stays in the process."""
    error = errors.CallTimeoutError("n", 2.0)
    error._worker = lambda: None
    assert pickle.loads(pickle.dumps(error))._worker is None  # noqa: S301


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.CircuitOpenError("n", 1.23456), "n: the circuit is open; retry after 1.23 s"),
        (errors.BulkheadFullError("n"), "n: the bulkhead is full"),
        (errors.CallTimeoutError("n", 2.0), "n: no answer within 2 s"),
        (errors.RetriesExhaustedError("n", 3, ["secret"]), "n: after 3 attempts the result, a list, is refused"),
        (errors.DegradationError("n", (KeyError(),)), "n: the call and its fallbacks failed (KeyError)"),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_texts(error, text):
    """The text says who, what, and what to do, and shows no result that may be secret."""
    assert str(error) == text


class Shy(Exception):
    is_retryable = "no method"


class Firm(Exception):
    def is_retryable(self):
        return 0


@pytest.mark.parametrize(("error", "expected"), [(ValueError(), True), (Shy(), True), (Firm(), False)])
def test_is_retryable(error, expected):
    """An error without such a method, or with something else of that name, may be retried."""
    assert is_retryable(error) is expected
