"""What is found out of a network takes steps in proportion to its layers: counted, not timed."""

import sys
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest
from torch import nn

from hamdist.engine.spec import outline_of
from hamdist.errors import NetworkError
from hamdist.network.graph import Edge
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality
from hamdist.network.losses import LossSpec
from hamdist.network.network import Network
from hamdist.network.tick_order import crossings
from hamdist.physics.losses import LOSSES
from hamdist.planning.plan import instants


def network(layers: int, loss_on: str | None = None) -> Network:
    """A chain with a way around every other layer."""
    names = [f"l{i}" for i in range(layers)]
    specs = tuple(LayerSpec(name, lambda: nn.Linear(2, 2)) for name in names)
    edges = [Edge(a, b) for a, b in pairwise(names)]
    edges += [Edge(a, b) for a, b in pairwise(names[::2])]
    return Network(specs, {"loss": LossSpec(LOSSES["mse"], loss_on or names[-1])}, tuple(edges))


def steps(work: Callable[[], Any]) -> int:
    """How many instructions of Python it takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("mode", ["local", "nonlocal", "groups"])
def test_outlines(mode: str) -> None:
    """Of 6 times as many layers less than 9 times as many steps; towards 36 times, where each looks at all."""

    def outlined(layers: int) -> int:
        net = network(layers)
        groups = [net.names[k : k + 4] for k in range(0, layers, 4)] if mode == "groups" else []

        def work() -> None:
            outline = outline_of(net, Locality(mode=mode, groups=groups), Learning())
            crossings(outline.order, outline.graph.edges)
            instants(outline.graph)

        return steps(work)

    few, many = outlined(16), outlined(96)
    assert many < 9 * few


def test_mistakes() -> None:
    """Also where every edge is wrong: the names of all layers are not told each time."""

    def refused(layers: int) -> tuple[int, int]:
        names = [f"l{i}" for i in range(layers)]
        specs = tuple(LayerSpec(name, lambda: nn.Linear(2, 2)) for name in names)
        wrong = tuple(Edge(name, f"x{name}") for name in names)
        net, length = Network(specs, {"loss": LossSpec(LOSSES["mse"], names[-1])}, wrong), 0

        def work() -> None:
            nonlocal length
            with pytest.raises(NetworkError) as error:
                _ = net.graph
            length = len(str(error.value))

        return steps(work), length

    (few, short), (many, long) = refused(60), refused(480)
    assert many < 12 * few
    assert long < 12 * short
