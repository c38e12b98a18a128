"""Edges and layers as a user writes them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hamdist.errors import NetworkError, Problem, did_you_mean
from hamdist.network.graph import Edge

EdgeLike = str | tuple[int | str, int | str] | Mapping[str, Any] | Edge


def edges_of(edges: Any, names: Sequence[str]) -> tuple[Edge, ...] | None:
    """Every edge; None for the chain. Raises NetworkError."""
    if edges is None:
        return None
    if isinstance(edges, str | Mapping | Edge) or not isinstance(edges, Iterable):
        raise NetworkError(
            Problem("edges", f"expected a list of edges, as in ['0->1', '1->2'], got {edges!r}")
        )
    return tuple(edge_of(edge, names) for edge in edges)


EDGE_KEYS = ("from", "to", "delay", "shape")


def edge_of(edge: EdgeLike, names: Sequence[str]) -> Edge:
    """An edge from "0->1", "embed->head", (0, 1), {from, to, delay, shape} or an Edge. Raises NetworkError."""
    if isinstance(edge, Edge) and edge.feedback:
        raise NetworkError(
            f"edge {edge.name}: feedback is what leads to an earlier layer or itself: leave it out"
        )
    if isinstance(edge, Edge):
        _check_delay(edge.name, edge.delay)
        return edge
    if isinstance(edge, Mapping):
        return _described_edge(edge, names)
    ends = [end.strip() for end in edge.split("->")] if isinstance(edge, str) else edge
    if not isinstance(ends, list | tuple) or len(ends) != 2 or not all(_is_end(end) for end in ends):
        raise NetworkError(f"edge {edge!r} is not of the form 'from->to'")
    return Edge(layer_name(ends[0], names), layer_name(ends[1], names))


def _is_end(end: object) -> bool:
    return isinstance(end, str | int) and not isinstance(end, bool) and end != ""


def _described_edge(edge: Mapping[str, Any], names: Sequence[str]) -> Edge:
    for key in edge:
        if key not in EDGE_KEYS:
            accepted = ", ".join(EDGE_KEYS)
            message = f"unknown key {key!r}{did_you_mean(key, EDGE_KEYS)} (accepted: {accepted})"
            raise NetworkError(f"edge {dict(edge)!r}: {message}")
    if not (_is_end(edge.get("from")) and _is_end(edge.get("to"))):
        raise NetworkError(f"edge {dict(edge)!r} needs both ends: {{'from': …, 'to': …}}")
    delay, shape = edge.get("delay"), edge.get("shape")
    _check_delay(repr(dict(edge)), delay)
    ends = layer_name(edge["from"], names), layer_name(edge["to"], names)
    return Edge(*ends, delay, shape=None if shape is None else tuple(shape))


def _check_delay(edge: str, delay: Any) -> None:
    if delay is not None and (isinstance(delay, bool) or not isinstance(delay, int)):
        raise NetworkError(f"edge {edge}: a delay is a whole number of ticks, not {delay!r}")


def layer_name(layer: int | str, names: Sequence[str]) -> str:
    """The name of a layer given by name or by index; what is neither is left for the graph to refuse."""
    text = str(layer)
    if text.isdecimal() and text not in names and int(text) < len(names):
        return names[int(text)]
    return text


def edge_name(name: str, names: Sequence[str]) -> str:
    """ "0->1" in terms of layer names."""
    return "->".join(layer_name(end.strip(), names) for end in name.split("->"))
