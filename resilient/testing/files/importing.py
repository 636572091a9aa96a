"""Code named in files: "package.module:name" leads to a function, or to whatever else has that name."""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from typing import Any

from resilient.errors import ConfigurationError


def imported(path: str) -> Any:
    """What `path` names, such as "shop.orders:place" or "shop.orders:Client.place"; its module is imported.

    Raises ConfigurationError, which says whether the form, the module or the name is wrong.
    """
    module, colon, name = path.partition(":")
    if not colon or not module.strip() or not name.strip() or ":" in name:
        raise ConfigurationError('expected "package.module:name"')
    return _attribute(_module(module), module, name)


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            remedy = "there is no such module among the installed packages or where Python looks"
            raise ConfigurationError(f"module {name}: {remedy}") from None
        raise ConfigurationError(f"module {name} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        # Its text may hold what the module has read, so only its kind is told; the cause is kept.
        raise ConfigurationError(f"module {name} cannot be imported: it raised {type(error).__name__}") from error


def _attribute(module: Any, path: str, name: str) -> Any:
    try:
        return reduce(getattr, name.split("."), module)
    except AttributeError:
        raise ConfigurationError(f"module {path} has no {name}") from None
