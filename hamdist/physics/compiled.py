"""Traced operations as machine code, by torch's compiler, where there is one: the same numbers within rounding."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from hamdist.physics.traced import TRACING, Traced
from hamdist.physics.traced_graph import aten


class CompilerMissingError(Exception):
    """The compiler did not compile: there is none on this machine, or it failed."""


class Compiled:
    """seconds: what compiling took. What it compiled once it finds again in torch's own cache on disk."""

    def __init__(self, traced: Traced, tensors: list[Tensor]) -> None:
        """traced: not for running one by one, and not to be used any more.  tensors: examples.

        Raises CompilerMissingError with the compiler's own words.
        """
        started = time.perf_counter()
        self._traced = traced
        _multiply_first(traced.graph)
        try:
            with TRACING:
                self._run: Callable[..., Any] = torch._inductor.compile(traced.graph, list(tensors))
        except Exception as error:
            raise CompilerMissingError((str(error).strip() or repr(error)).splitlines()[0]) from error
        traced.run = self._run
        self.seconds = time.perf_counter() - started

    def flat(self, tensors: list[Tensor]) -> list[Tensor]:
        """As a trace's."""
        return self._traced.flat(tensors)


def _multiply_first(graph: fx.GraphModule) -> None:
    """a + alpha b as a product and a sum: the compiler of torch 2.13 drops `alpha` where it fuses one with a matrix
    product."""
    for node in list(graph.graph.nodes):
        if node.target in (aten.add.Tensor, aten.add_.Tensor) and "alpha" in node.kwargs:
            with graph.graph.inserting_before(node):
                product = graph.graph.call_function(aten.mul.Tensor, (node.args[1], node.kwargs["alpha"]))
            node.args, node.kwargs = (node.args[0], product), {}
    graph.recompile()
