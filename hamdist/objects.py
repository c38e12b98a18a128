"""Objects of the user's own code, which a config names as "package.module:name"."""

import importlib
from types import ModuleType
from typing import Any

from hamdist.errors import UserError, did_you_mean


def find_object(path: str) -> Any:
    """The object that "package.module:name" names. Raises UserError: no colon, no such module, no such name."""
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise UserError(f"{path!r} is not of the form 'package.module:name'")
    module = _import(module_name)
    if not hasattr(module, name):
        hint = did_you_mean(name, vars(module))
        raise UserError(f"the module {module_name!r} has no {name!r}{hint}")
    return getattr(module, name)


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
