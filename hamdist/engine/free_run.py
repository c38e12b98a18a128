"""A network that runs freely: its weights stand still, and what it says may be what it hears next.

One plain pass a step, all delays zero: at standing weights a network with delays says the same, only later. Feedback
brings what was said as many samples ago as it does in a run.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from hamdist.engine.build import Program
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.spec import Outline
from hamdist.errors import NetworkError, StreamError, UserError
from hamdist.network.graph import Edge
from hamdist.network.plain_graph import forward_pass
from hamdist.network.timing import feedback_lag
from hamdist.physics.layers import Point
from hamdist.physics.statespace.contract import advanced
from hamdist.physics.step import Weights

Feed = Literal["output", "zero", "same"]
Says = Callable[[tuple[Tensor, ...], Tensor | None], Tensor]


class FreeLayer:
    """One layer on its own. Its memory starts with its first input; a relaxing one stands at its equilibrium."""

    def __init__(self, plan: NodeSpec, weights: Weights) -> None:
        self._plan, self._weights = plan, weights
        self._state: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, node: LayerNode) -> "FreeLayer":
        """With the weights that a layer has now, or their mean where one is kept."""
        return cls(node.spec, tree_map(torch.clone, node.carry.averaged))

    @torch.no_grad()
    def __call__(self, inputs: tuple[Tensor, ...], restarts: Tensor | None = None) -> Tensor:
        """What it says of inputs [R, …], in evaluation mode; its state moves on.  restarts: flags [R] of the rows in
        which an episode begins. Raises StreamError for other rows than before, unless all begin one."""
        plan, (parameters, buffers) = self._plan, self._weights
        layer, context = plan.layer, plan.facts.context(training=False)
        if not layer.remembers:
            return layer.pure(parameters, buffers, inputs, context)[0]
        state = self._before(inputs, restarts)
        values = layer(parameters, buffers, Point(inputs, state, context))
        self._state = advanced(state, values.drift, plan.dynamics.tau)
        return values.output

    def _before(self, inputs: tuple[Tensor, ...], restarts: Tensor | None) -> tuple[Tensor, ...]:
        layer, (parameters, buffers) = self._plan.layer, self._weights
        if not self._state or (restarts is not None and restarts.all()):
            return layer.initial_state(parameters, buffers, inputs)
        rows, known = len(inputs[0]), len(self._state[0])
        if rows != known:
            raise StreamError(
                f"{rows} rows came to layer {self._plan.name!r}, whose memory has {known}: say restart=True where "
                "others begin"
            )
        if restarts is None:
            return self._state
        return layer.restarted(parameters, buffers, inputs, self._state, restarts.to(inputs[0].device))


class FreeRun:
    """layers: what each says of its inputs, wherever it lives.  shapes: of what each says, [B, …]."""

    def __init__(
        self, outline: Outline, layers: Mapping[str, Says], shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._graph, self._layers, self._shapes = outline.graph, layers, shapes
        self._last = next(iter(outline.losses.values())).layer
        self._feedback = [edge for edge in self._graph.edges if edge.feedback]
        lags = feedback_lag(self._graph)
        self._said: dict[str, deque[Tensor]] = {name: deque(maxlen=lag) for name, lag in lags.items()}

    @classmethod
    def of(cls, program: Program, layers: Mapping[str, FreeLayer]) -> "FreeRun":
        """Of a network in this process."""
        shapes = {name: node.facts.says.shape for name, node in program.nodes.items()}
        return cls(program.outline, layers, shapes)

    @torch.no_grad()
    def step(self, x: Tensor, restarts: Tensor | None = None) -> Tensor:
        """What the network says of x [R, …], at its first loss; its states move on.  restarts: flags [R]."""
        self._keep_rows(len(x), restarts)
        told = {edge.name: self._heard(edge, x) for edge in self._feedback}
        outputs = forward_pass(
            self._graph, lambda name, inputs: self._layers[name](inputs, restarts), x, told
        )
        for edge in self._feedback:
            self._said[edge.name].append(outputs[edge.source])
        return outputs[self._last]

    def go(self, first: Iterable[tuple[Tensor, Tensor | None]], steps: int, feed: Feed) -> Iterator[Tensor]:
        """Goes through the inputs `first`, each with its restarts, then so many steps more, of which the outputs are
        given; with none, the output at the last of the first.

        feed: the input of a step is the output of the one before, zero, or the same all along. Where an input is a
        window of the last values, channel after channel, as the source `signals` makes them, an output is its latest.
        Raises StreamError, and NetworkError where outputs do not fit into inputs.
        """
        check_free(steps, feed)
        x = y = None
        for x, restarts in first:
            y = self.step(x, restarts)
        if x is None or y is None:
            raise StreamError("generate needs a first input, from which memories start")
        if not steps:
            yield y
        for _ in range(steps):
            x = fed(x, y) if feed == "output" else torch.zeros_like(x) if feed == "zero" else x
            y = self.step(x)
            yield y

    def _keep_rows(self, rows: int, restarts: Tensor | None) -> None:
        """Feedback is of the rows that were before; where others begin there has been none. Raises StreamError."""
        known = next((len(said[0]) for said in self._said.values() if said), rows)
        if rows == known:
            return
        if restarts is None or not restarts.all():
            message = f"{rows} rows came, and feedback is of {known}: say restart=True where others begin"
            raise StreamError(message)
        for said in self._said.values():
            said.clear()

    def _heard(self, edge: Edge, x: Tensor) -> Tensor:
        """What feedback brings to the sample x: zeros, until so much was said as it lags behind."""
        said = self._said[edge.name]
        return said[0] if len(said) == said.maxlen else x.new_zeros(len(x), *self._shapes[edge.source][1:])


def check_free(steps: Any, feed: Any) -> None:
    """Raises UserError for what says nothing."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UserError(f"steps is a whole number, 0 or more, not {steps!r}")
    if feed not in get_args(Feed):
        raise UserError(f"feed is one of {', '.join(get_args(Feed))}, not {feed!r}")


def fed(x: Tensor, y: Tensor) -> Tensor:
    """The input after x [R, window · channels] when y [R, channels] was said: every channel moves on by one value."""
    rows, channels = y.shape[0], y[0].numel()
    if x.shape == y.shape:
        return y
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] % channels or not y.is_floating_point():
        raise NetworkError(
            f"an output of {list(y.shape[1:])} cannot be the next input, which has {list(x.shape[1:])}: feed zero"
        )
    return torch.cat([x.view(rows, channels, -1)[:, :, 1:], y.unsqueeze(2)], 2).view(rows, -1)
