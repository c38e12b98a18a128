"""Where in the user's own code something stands: not in torch, nor here."""

import inspect
import traceback
from pathlib import Path

import torch
from torch import nn

import hamdist

_OTHERS = tuple(str(Path(module.__file__).parent) for module in (torch, hamdist) if module.__file__)


def error_place(error: BaseException) -> str:
    """ " (layers.py:12)" of the innermost line of the user's that an error came through; empty where there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def class_place(module: nn.Module) -> str:
    """The same for the class of a module, or of the first of its parts that is the user's."""
    for part in module.modules():
        try:
            file = inspect.getsourcefile(type(part))
            line = inspect.getsourcelines(type(part))[1]
        except (OSError, TypeError):  # of classes made in a console
            continue
        if file and _is_users(file):
            return f" ({file}:{line})"
    return ""


def _is_users(file: str) -> bool:
    return not file.startswith((*_OTHERS, "<"))
