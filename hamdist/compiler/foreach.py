"""Updates of many tensors in few kernels: a pass over traced operations, for running them one by one.

What a tick writes in place, weights and their costates above all, waits until everything else is done; then operations
of the same kind on different tensors run as one on lists of them. The numbers are the same.
"""

import operator
from collections.abc import Hashable, Iterator
from itertools import groupby
from typing import Any

from torch import Tensor, fx
from torch._ops import OpOverload

from hamdist.compiler.passes import aten, in_place, root

# By the operation, and whether its second argument is a tensor.
_ON_LISTS: dict[tuple[OpOverload, bool], OpOverload] = {
    (aten.mul_.Tensor, False): aten._foreach_mul_.Scalar,
    (aten.add_.Tensor, True): aten._foreach_add_.List,
    (aten.add_.Tensor, False): aten._foreach_add_.Scalar,
    (aten.mul.Tensor, True): aten._foreach_mul.List,
    (aten.add.Tensor, False): aten._foreach_add.Scalar,
}


def gather_updates(graph: fx.Graph) -> None:
    """Moves updates to the end and joins those that are alike."""
    level = _levels(graph)
    output = graph.output_node()
    ranked = sorted(level, key=lambda node: (level[node], repr(_likeness(node))))
    for _, alike in groupby(ranked, key=lambda node: (level[node], repr(_likeness(node)))):
        nodes = list(alike)
        if len(nodes) > 1 and _list_form(nodes[0]) is not None:
            _join(graph, output, nodes)
        else:
            for node in nodes:
                output.prepend(node)


def _levels(graph: fx.Graph) -> dict[fx.Node, int]:
    """The operations in place, and all that follow from them: how many of these each waits for in a row.

    One waits for what it uses, for what was written before into memory that it reads, and, where it writes, for all
    that read there before. Counters, which are only added to and given back, go with them.
    """
    level: dict[fx.Node, int] = {}
    read: dict[fx.Node, int] = {}  # by memory: the level of the last that reads, or writes, there
    written: dict[fx.Node, int] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        memories = {root(given) for given in node.all_input_nodes}
        before = [level[given] for given in node.all_input_nodes if given in level]
        before += [written[memory] for memory in memories if memory in written]
        if not (before or in_place(node) or _counts(node)):
            continue
        if in_place(node):
            before.append(read.get(root(node), 0))
        level[node] = 1 + max(before, default=0)
        for memory in memories:
            read[memory] = max(read.get(memory, 0), level[node])
        if in_place(node):
            written[root(node)] = level[node]
    return level


def _counts(node: fx.Node) -> bool:
    return (
        node.target is aten.add.Tensor
        and all(given.op == "placeholder" for given in node.all_input_nodes)
        and all(user.op == "output" for user in node.users)
    )


def _list_form(node: fx.Node) -> OpOverload | None:
    if len(node.args) < 2:
        return None
    return _ON_LISTS.get((node.target, isinstance(node.args[1], fx.Node)))  # type: ignore[arg-type]


def _likeness(node: fx.Node) -> tuple[Hashable, ...]:
    """The same for operations that may be one on lists."""
    numbers = tuple(argument for argument in node.args if not isinstance(argument, fx.Node))
    value = node.meta.get("val")
    kind = str(value.dtype) if isinstance(value, Tensor) else ""
    return str(node.target), numbers, tuple(sorted(node.kwargs.items())), kind


def _join(graph: fx.Graph, output: fx.Node, nodes: list[fx.Node]) -> None:
    """One operation on lists for all of them."""
    target = _list_form(nodes[0])
    assert target is not None
    firsts: Any = [node.args[0] for node in nodes]
    several = isinstance(nodes[0].args[1], fx.Node)
    seconds: Any = [node.args[1] for node in nodes] if several else nodes[0].args[1]
    with graph.inserting_before(output):
        joined = graph.call_function(target, (firsts, seconds), dict(nodes[0].kwargs))
        for node, result in zip(nodes, _results(graph, joined, nodes), strict=True):
            node.replace_all_uses_with(result)
            graph.erase_node(node)


def _results(graph: fx.Graph, joined: fx.Node, nodes: list[fx.Node]) -> Iterator[fx.Node]:
    """Of each: the tensor written, or a new one."""
    for place, node in enumerate(nodes):
        if in_place(node):
            yield node.args[0]  # type: ignore[misc]
        else:
            result = graph.call_function(operator.getitem, (joined, place))
            result.meta["val"] = node.meta["val"]
            yield result
