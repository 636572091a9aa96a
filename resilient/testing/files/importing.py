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
        if error.name is None:
            raise _failed(f"module {name} cannot be imported", error) from error
        if name == error.name or name.startswith(f"{error.name}."):
            remedy = "there is no such module among the installed packages or where Python looks"
            raise ConfigurationError(f"module {name}: {remedy}") from None
        raise ConfigurationError(f"module {name} cannot be imported: it needs module {error.name}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # pytest's own "skip this" among them
        raise _failed(f"module {name} cannot be imported", error) from error


def _attribute(module: Any, path: str, name: str) -> Any:
    try:
        return reduce(getattr, name.split("."), module)
    except AttributeError:
        raise ConfigurationError(f"module {path} has no {name}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(f"{name} of module {path} cannot be had", error) from error


def _failed(what: str, error: BaseException) -> ConfigurationError:
    """What is said of code that raised. Its text may hold what it has read, so only its kind is; the cause is kept."""
    return ConfigurationError(f"{what}: it raised {type(error).__name__}")
