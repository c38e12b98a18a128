"""Objects of the user's own code, which a config names as "package.module:name": found, judged, and not yet called.

What an object is, it says itself: a name that a module only passes on leads to the module where it was defined.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from torch import nn

from hamdist.errors import UserError, did_you_mean

NOT_THE_USERS = frozenset({*sys.stdlib_module_names, "torch", "hamdist"})


def find_object(path: str) -> Any:
    """The object that "package.module:name" names. Raises UserError: no colon, no such module, no such name."""
    module_name, name = parts_of(path)
    module = _import(module_name)
    try:
        return getattr(module, name)
    except AttributeError:
        hint = did_you_mean(name, vars(module))
        raise UserError(f"the module {module_name!r} has no {name!r}{hint}") from None
    except Exception as error:
        raise UserError(f"the module {module_name!r} cannot give {name!r}: {error!r}") from error


def find_layer(path: str) -> type[nn.Module]:
    """The class of a layer. Raises UserError as `find_object`, and for what is no subclass of nn.Module."""
    return as_layer(find_object(path), path)


def find_loss(path: str) -> Callable[..., Any]:
    """A function of outputs and targets, or a class of nn.Module that makes one. Raises UserError."""
    return as_loss(find_object(path), path)


def find_factory(path: str) -> Callable[..., Any]:
    """A function or class of the user's that makes layers or samples. Raises UserError."""
    return as_factory(find_object(path), path)


def parts_of(path: str) -> tuple[str, str]:
    """Module and name. Raises UserError."""
    module, _, name = path.partition(":")
    if not (module and name):
        raise UserError(f"{path!r} is not of the form 'package.module:name'")
    return module, name


def as_layer(found: Any, path: str) -> type[nn.Module]:
    """What was found, if it is a subclass of nn.Module. Raises UserError."""
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    raise UserError(
        f"{path!r} is {_kind(found)}; expected a subclass of torch.nn.Module (a function that makes layers is the "
        "`factory` of a network)"
    )


def as_loss(found: Any, path: str) -> Callable[..., Any]:
    """What was found, if it may be a loss. Raises UserError."""
    if isinstance(found, type) and not issubclass(found, nn.Module):
        raise UserError(f"{path!r} is {_kind(found)}; expected a function, or a subclass of torch.nn.Module")
    if not callable(found):
        raise UserError(f"{path!r} is {_kind(found)}; expected a function of outputs and targets")
    if package_of(found, path) in sys.stdlib_module_names:
        raise UserError(f"{path!r} is of Python's standard library; expected a function of tensors")
    return found


def as_factory(found: Any, path: str) -> Callable[..., Any]:
    """What was found, if it may be a factory: nothing of Python's, torch's or hamdist's own. Raises UserError."""
    if not callable(found):
        raise UserError(f"{path!r} is {_kind(found)}; expected a function or a class")
    if (package := package_of(found, path)) in NOT_THE_USERS:
        whose = "Python's standard library" if package in sys.stdlib_module_names else package
        raise UserError(f"{path!r} is of {whose}; expected a function of your own, which may call it")
    return found


def home_of(found: Any, path: str) -> str:
    """The module that defines an object, whatever other module names it; that of the path for a mere instance."""
    while isinstance(found, partial):
        found = found.func
    if not (isinstance(found, type) or inspect.isroutine(found)):
        return parts_of(path)[0]
    owner = getattr(found, "__self__", None)
    for each in (found, owner, type(owner)):
        if isinstance(home := getattr(each, "__module__", None), str):
            return home
    return "builtins"


def package_of(found: Any, path: str) -> str:
    """The outermost package of its home."""
    return home_of(found, path).partition(".")[0]


def _kind(found: Any) -> str:
    """ "a function", "the class Path", "of type int"."""
    if isinstance(found, type):
        return f"the class {found.__qualname__}"
    return "a function" if inspect.isroutine(found) else f"of type {type(found).__name__}"


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"the module {name!r} cannot be imported: {error}") from error
        raise UserError(
            f"there is no module {error.name!r}; is the folder that holds it on PYTHONPATH?"
        ) from error
    except Exception as error:
        raise UserError(f"the module {name!r} cannot be imported: {error!r}") from error
