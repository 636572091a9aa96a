"""Exception types by name, as a file has to write them: `ConnectionError`, `httpx.TransportError`."""

from __future__ import annotations

import builtins
import pkgutil
import re
from typing import Any

from resilient import errors
from resilient.errors import ConfigurationError
from resilient.strategies.problems import shown

#: The options that say which errors; everywhere else a string is a string.
FILTERS = frozenset({"on", "give_up_on", "expected_exception", "ignore"})

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_ALLOWED = "an exception type of Python's, of resilient.errors, or module.Name"


def resolved(option: str, value: Any) -> Any:
    """The value with names replaced by the exception types they name; a list becomes a tuple.

    A name with a dot imports its module. Raises ConfigurationError for a name that leads to no exception type.
    """
    if option not in FILTERS:
        return value
    if isinstance(value, str):
        return _named(value)
    if isinstance(value, (list, tuple)):
        return tuple(_named(part) if isinstance(part, str) else _no_list(part) for part in value)
    return value


def _no_list(part: Any) -> Any:
    if isinstance(part, (list, tuple, dict, set)):  # which may be of any size: it is not to be shown as it is
        raise ConfigurationError(f"must name exception types: {shown(part)} is not {_ALLOWED}")
    return part


def _named(name: str) -> Any:
    found = _find(name) if _DOTTED.fullmatch(name) else None
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        raise ConfigurationError(f"must name exception types: {shown(name)} is not {_ALLOWED}")
    return found


def _find(name: str) -> Any:
    if "." not in name:
        return getattr(builtins, name, None) or getattr(errors, name, None)
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"must name exception types: {shown(name)} cannot be imported ({error})") from None
    except (Exception, SystemExit) as error:
        what = type(error).__name__
        raise ConfigurationError(f"must name exception types: importing {shown(name)} ends with {what}") from None
