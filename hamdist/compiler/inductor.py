"""Traced operations as machine code, by torch's compiler, where there is one: the same numbers within rounding."""

import logging
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from hamdist.compiler.passes import aten
from hamdist.compiler.trace import TRACING, Traced

_log = logging.getLogger(__name__)


class CompilerMissingError(Exception):
    """The compiler did not compile: there is none on this machine, or it failed."""


class Compiling:
    """Makes traced functions, as machine code where that is wanted and for as long as the compiler does it.

    of: what is compiled, to be said before it is.  what: is said to be uncompiled where it fails.  seconds: compiling
    took.  why: it failed; empty where it did not.
    """

    def __init__(self, wanted: bool, what: str, of: str) -> None:
        self.wanted, self._what, self._of = wanted, what, of
        self.seconds, self.why = 0.0, ""

    def __call__(self, make: Callable[[bool], Traced], tensors: list[Tensor]) -> Traced:
        """make: traces, to run one by one or not.  tensors: examples."""
        if self.wanted:
            _log.info("compiling %s", self._of)
            traced = make(False)
            try:
                self.seconds += to_machine_code(traced, tensors)
                return traced
            except CompilerMissingError as error:
                self.wanted, self.why = False, str(error)
                warnings.warn(f"{self._what} uncompiled: {error}", stacklevel=2)
        return make(True)


def to_machine_code(traced: Traced, tensors: list[Tensor]) -> float:
    """From now on the operations run compiled; returns the seconds that it took.

    traced: not for running one by one.  tensors: examples. What was compiled once is found again in torch's own cache
    on disk. Raises CompilerMissingError with the compiler's own words; the operations are then not to be used any more.
    """
    started = time.perf_counter()
    _multiply_first(traced.graph)
    try:
        with TRACING:
            traced.run = torch._inductor.compile(traced.graph, list(tensors), options=_options(tensors))
    except Exception as error:
        raise CompilerMissingError((str(error).strip() or repr(error)).splitlines()[0]) from error
    return time.perf_counter() - started


def _options(tensors: list[Tensor]) -> dict[str, Any]:
    """On a CPU what calls the kernels is machine code too: for small layers, Python would take longer than they do."""
    return {"cpp_wrapper": all(tensor.is_cpu for tensor in tensors)}


def _multiply_first(graph: fx.GraphModule) -> None:
    """a + alpha b as a product and a sum: the compiler of torch 2.13 drops `alpha` where it fuses one with a matrix
    product."""
    for node in list(graph.graph.nodes):
        if node.target in (aten.add.Tensor, aten.add_.Tensor) and "alpha" in node.kwargs:
            with graph.graph.inserting_before(node):
                product = graph.graph.call_function(aten.mul.Tensor, (node.args[1], node.kwargs["alpha"]))
            node.args, node.kwargs = (node.args[0], product), {}
    graph.recompile()
