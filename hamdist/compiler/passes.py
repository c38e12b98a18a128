"""Traced operations as a graph: which of them change nothing, write in place, or can be put in better words.

The last pass calls them by the names that torch's Python bindings give them: the same kernels, with less ado.
"""

from collections.abc import Callable
from functools import partial
from operator import getitem
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

aten = torch.ops.aten
_SAME_IF_ALIKE = (
    aten.view.default,
    aten._unsafe_view.default,
    aten.expand.default,
    aten.slice.Tensor,
    aten.slice_backward.default,
)
_VIEWS = (*_SAME_IF_ALIKE[:-1], aten.transpose.int, aten.t.default, aten.unsqueeze.default, aten.squeeze.dim)


def simplify(graph: fx.Graph) -> None:
    """Leaves out what changes nothing, and has products come as they are used; no number changes by that."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    _each(graph, partial(_leave_out, order))
    _each(graph, _transpose_factors)
    _each(graph, _multiply_outer)


def in_place(node: fx.Node) -> bool:
    """Whether an operation writes into its first argument."""
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def is_view(node: fx.Node) -> bool:
    """Whether an operation's result lies in the memory of its first argument."""
    return isinstance(node.target, OpOverload) and (
        node.target.is_view or node.target in _VIEWS or node.target is aten.detach.default
    )


def root(node: fx.Node) -> fx.Node:
    """The node in whose memory this one lies, along views and operations in place."""
    while node.op == "call_function" and (in_place(node) or is_view(node) or node.target is getitem):
        node = node.all_input_nodes[0]
    return node


def drop_written(graph: fx.Graph) -> list[int | None]:
    """Takes from the outputs those that are arguments, as given or written in place; for each, which one, or None."""
    output = graph.output_node()
    places = {node: place for place, node in enumerate(graph.find_nodes(op="placeholder"))}
    results: Any = output.args[0]
    kept = [places.get(_written(node)) for node in results]
    output.args = ([node for node, place in zip(results, kept, strict=True) if place is None],)
    return kept


def _written(node: fx.Node) -> fx.Node:
    """The node whose memory this one's result is, along operations in place."""
    while node.op == "call_function" and in_place(node):
        node = node.all_input_nodes[0]
    return node


def _each(graph: fx.Graph, change: Any) -> None:
    for node in list(graph.nodes):
        change(graph, node)
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or in_place(node))


def _leave_out(order: dict[fx.Node, int], graph: fx.Graph, node: fx.Node) -> None:
    if node.op == "call_function" and (same := _same(node, order)) is not None:
        node.replace_all_uses_with(same)


def _same(node: fx.Node, order: dict[fx.Node, int] | None = None) -> fx.Node | None:
    """The node that this one is equal to, if there is one.  order: of all nodes, where copies are to be left out."""
    if not node.all_input_nodes:
        return None
    given, target = node.all_input_nodes[0], node.target
    if target is aten.detach.default:
        return given
    if target in (aten.mul.Tensor, aten.mul.Scalar) and _is_one(node.args[1]):
        return given if order is not None and _stands_for(given, node, order) else None
    if (
        target is aten.transpose.int
        and given.target is aten.transpose.int
        and given.args[1:] == node.args[1:]
    ):
        return given.args[0]  # type: ignore[return-value]
    if target in _SAME_IF_ALIKE:
        before, after = given.meta["val"], node.meta["val"]
        return given if (before.shape, before.stride()) == (after.shape, after.stride()) else None
    return None


def _is_one(factor: Any) -> bool:
    return isinstance(factor, int | float) and factor == 1


def _stands_for(given: fx.Node, copy: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Whether a tensor may take the place of a copy of it.

    It may if it has the dtype, if nothing is written into the copy, and nothing into the tensor before the copy's last
    use.
    """
    if given.meta["val"].dtype != copy.meta["val"].dtype:
        return False
    there = _within(copy)
    last = max((order[user] for node in there for user in node.users), default=0)
    return not (
        any(map(in_place, there))
        or any(in_place(node) and order[copy] < order[node] < last for node in _within(root(given)))
    )


def _within(node: fx.Node) -> list[fx.Node]:
    """A node, and all that lie in its memory, along views and operations in place."""
    found = [node]
    for known in found:
        found += [
            user
            for user in known.users
            if user.all_input_nodes[0] is known
            and (in_place(user) or is_view(user) or user.target is getitem)
            and user not in found
        ]
    return found


def _transpose_factors(graph: fx.Graph, node: fx.Node) -> None:
    """(a b)ᵀ becomes bᵀ aᵀ: as a product it comes in plain order, as a transposed one in another than its weights'.

    Sums of tensors in different orders take several times as long.
    """
    if node.target is not aten.transpose.int or sorted(d % 3 for d in node.args[1:]) != [1, 2]:  # type: ignore[operator]
        return
    product = node.args[0]
    if not (isinstance(product, fx.Node) and product.target is aten.bmm.default and len(product.users) == 1):
        return
    first, second = product.args
    with graph.inserting_before(node):
        turned = [_added(graph, aten.transpose.int, factor, 1, 2) for factor in (second, first)]
        node.replace_all_uses_with(_added(graph, aten.bmm.default, *turned))


def _added(graph: fx.Graph, target: OpOverload, *arguments: Any) -> fx.Node:
    """A new node, with an example of its value like any other's; a transposition of a transposition is none."""
    node = graph.call_function(target, arguments)
    node.meta["val"] = target(*(a.meta["val"] if isinstance(a, fx.Node) else a for a in arguments))
    return _same(node) or node


def _multiply_outer(graph: fx.Graph, node: fx.Node) -> None:
    """Outer products, a [N, p, 1] by [N, 1, q], are plain products: a sum over one row is none."""
    if node.target is aten.bmm.default and node.args[0].meta["val"].shape[-1] == 1:  # type: ignore[union-attr]
        node.target = aten.mul.Tensor


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
