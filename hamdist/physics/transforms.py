"""Whether code runs inside a transform of torch: vmap, grad, the compiler. There derivatives are taken by torch.func.

Outside of them plain autograd gives the same numbers with a fraction of the Python.
"""

import torch


def transformed() -> bool:
    """Whether a function is being transformed, or compiled, at this moment."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None
