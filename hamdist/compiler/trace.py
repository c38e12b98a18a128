"""Functions of tensors as the bare sequence of torch's operations: what Python does once, it need not do every tick.

A traced function runs the operations that its trace saw, so it holds for tensors of the same shapes and dtypes. vmap
and vjp are gone from it: a `vmap` of a gradient spends most of a small layer's time in Python.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

from hamdist.compiler.foreach import gather_updates
from hamdist.compiler.passes import drop_written, simplify, speak
from hamdist.physics.numerics import tracing

TRACING = threading.RLock()  # torch traces, and compiles, for one thread of a process at a time


def leaves(trees: Iterable[Any]) -> list[Tensor]:
    """The tensors of tensors, of tuples and of dictionaries of them, in the order of torch's pytrees."""
    found: list[Tensor] = []
    for tree in trees:
        if isinstance(tree, Tensor):
            found.append(tree)
        else:
            found += tree.values() if isinstance(tree, dict) else tree
    return found


class Traced:
    """A function of trees of tensors, to trees of tensors.

    graph: the sequence of its operations.  places: the tree of its results, with the place of each in `flat`'s.
    What the function writes in place it writes in the memory of its arguments, and returns them.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any, eager: bool = True) -> None:
        """arguments: examples.  eager: whether the operations are to run one by one.

        Raises whatever the function raises, and where it asks for the value of a tensor.
        """
        flat, self._given = tree_flatten(arguments)
        shapes: list[Any] = []

        def flattened(*tensors: Tensor) -> list[Tensor]:
            leaves, shape = tree_flatten(function(*tree_unflatten(tensors, self._given)))
            shapes.append(shape)
            return leaves

        with TRACING, torch.no_grad(), tracing():
            self.graph = make_fx(flattened, tracing_mode="fake")(*flat)
        self._result = shapes[-1]
        simplify(self.graph.graph)
        self._kept = drop_written(self.graph.graph)
        self.places: Any = tree_unflatten(range(len(self._kept)), self._result)
        if eager:
            gather_updates(self.graph.graph)
            speak(self.graph.graph)
        self.graph.recompile()
        self.run: Callable[..., Any] = self.graph.forward

    def __call__(self, *arguments: Any) -> Any:
        flat, given = tree_flatten(arguments)
        if given != self._given:
            raise TypeError("a traced function was given arguments of another form than its examples'")
        return tree_unflatten(self.flat(flat), self._result)

    def flat(self, tensors: list[Tensor]) -> list[Tensor]:
        """The same, for the leaves of the trees."""
        computed = iter(self.run(*tensors))
        return [next(computed) if place is None else tensors[place] for place in self._kept]
