"""Objects made by the user's own code, which a config names as "package.module:name"."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from hamdist.errors import Problem, StreamError, UserError
from hamdist.objects import find_factory


def load_factory(factory: str) -> Callable[..., Any]:
    """The function or class that `factory`, "package.module:name", names."""
    try:
        return find_factory(str(factory))
    except UserError as error:
        raise _refused(str(error)) from error


def bind_factory(factory: str, args: Mapping[str, Any] | None = None) -> Callable[[], Any]:
    """The factory with its arguments, ready to be called; StreamError where it does not take them."""
    found = load_factory(factory)
    check_arguments(found, args or {}, factory)
    return partial(_call, found, args or {}, factory)


def _call(function: Callable[..., Any], args: Mapping[str, Any], name: str) -> Any:
    try:
        return function(**args)
    except UserError:
        raise
    except Exception as error:
        raise _refused(f"{name} failed: {error!r}") from error


def check_arguments(function: Callable[..., Any], args: Mapping[str, Any], name: str) -> None:
    """StreamError, with the key args, where `function` does not take these arguments."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return
    try:
        signature.bind(**args)
    except TypeError as error:
        raise StreamError(Problem("args", f"{name} takes {signature}: {error}")) from error


def either(given: Any, name: str, factory: str | None) -> None:
    """StreamError unless exactly one of an object, called `name`, and a factory is there."""
    if (given is None) == (factory is None):
        both = "both are" if factory is not None else "neither is"
        raise _refused(f"{both} given; pass the {name} itself, or factory: 'package.module:name'")


def _refused(message: str) -> StreamError:
    return StreamError(Problem("factory", message))
