"""Traced operations by the names that torch's Python bindings give them: the same kernels, called with less ado."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from hamdist.physics.traced_graph import aten

_BY_NAME: dict[Any, Callable[..., Any]] = {
    aten.add.Tensor: torch.add,
    aten.addmm.default: torch.addmm,
    aten.bmm.default: torch.bmm,
    aten.cat.default: torch.cat,
    aten.mm.default: torch.mm,
    aten.mul.Tensor: torch.mul,
    aten.relu.default: torch.relu,
    aten.select.int: torch.select,
    aten.sigmoid.default: torch.sigmoid,
    aten.stack.default: torch.stack,
    aten.sub.Tensor: torch.sub,
    aten.t.default: torch.t,
    aten.tanh.default: torch.tanh,
    aten.transpose.int: torch.transpose,
    aten.unsqueeze.default: torch.unsqueeze,
    aten._foreach_add.Scalar: torch._foreach_add,
    aten._foreach_add_.List: torch._foreach_add_,
    aten._foreach_mul.List: torch._foreach_mul,
    aten._foreach_mul_.Scalar: torch._foreach_mul_,
}


def speak(graph: fx.Graph) -> None:
    """The last pass over a graph: the others look for the operations' own names."""
    for node in graph.nodes:
        if node.target is aten.view.default:
            node.op, node.target = "call_method", "view"
        node.target = _BY_NAME.get(node.target, node.target)
