"""Whether code runs inside a transform: torch's vmap, grad and compiler, or a trace. There torch.func differentiates.

Outside of them plain autograd gives the same numbers with a fraction of the Python.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_here = threading.local()


def transformed() -> bool:
    """Whether a function is being transformed, or compiled, at this moment."""
    return (
        getattr(_here, "tracing", False)
        or torch.compiler.is_compiling()
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


@contextmanager
def tracing() -> Iterator[None]:
    """Operations are being written down for later."""
    _here.tracing = True
    try:
        yield
    finally:
        _here.tracing = False
