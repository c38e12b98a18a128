"""A network that runs freely: its weights stand still, and what it says may be what it hears next.

One plain pass a step, all delays zero: at standing weights a network with delays says the same, only later. Feedback
brings what was said as many samples ago as it does in a run.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hamdist.engine.build import Program
from hamdist.errors import NetworkError
from hamdist.network.plain import forward_pass
from hamdist.network.timing import feedback_lag
from hamdist.physics.layers import Context, Point, Tensors
from hamdist.physics.statespace.contract import advanced

Feed = Literal["output", "zero", "same"]


class Weights(NamedTuple):
    """Of one layer: what learns, and what does not."""

    parameters: Tensors
    buffers: Tensors


class FreeRun:
    """weights: by layer.  Memories start with their first input; relaxing layers stand at their equilibrium."""

    def __init__(self, program: Program, weights: Mapping[str, Weights]) -> None:
        self._graph, self._cells, self._weights = program.graph, program.cells, weights
        self._bearer = next(iter(program.outline.losses.values())).layer
        self._states: dict[str, tuple[Tensor, ...]] = {}
        self._feedback = [edge for edge in self._graph.edges if edge.feedback]
        lags = feedback_lag(self._graph)
        self._said: dict[str, deque[Tensor]] = {name: deque(maxlen=lag) for name, lag in lags.items()}

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """What the network says of x [R, …], at its first loss; its states move on."""
        told = {edge.name: self._heard(edge.name, edge.target, x) for edge in self._feedback}
        outputs = forward_pass(self._graph, self._call, x, told)
        for edge in self._feedback:
            self._said[edge.name].append(outputs[edge.source])
        return outputs[self._bearer]

    def go(self, first: Iterable[Tensor], steps: int, feed: Feed) -> Iterator[Tensor]:
        """Goes through the inputs `first`, then so many steps more, of which the outputs are given.

        feed: the input of a step is the output of the one before, zero, or the same all along. Where an input is a
        window of the last values, channel after channel, as the source `signals` makes them, an output is its latest.
        Raises NetworkError where outputs do not fit into inputs.
        """
        x = y = None
        for x in first:
            y = self.step(x)
        assert x is not None, "it goes through one input at least"
        assert y is not None
        for _ in range(steps):
            x = fed(x, y) if feed == "output" else torch.zeros_like(x) if feed == "zero" else x
            y = self.step(x)
            yield y

    def _heard(self, name: str, target: str, x: Tensor) -> Tensor:
        said = self._said[name]
        if len(said) == said.maxlen:
            return said[0]
        plan = self._cells[target]
        like = next(
            heard for edge, heard in zip(plan.into, plan.facts.hears, strict=True) if edge.name == name
        )
        return x.new_zeros(len(x), *like.shape[1:])

    def _call(self, name: str, inputs: tuple[Tensor, ...]) -> Tensor:
        plan, (parameters, buffers) = self._cells[name], self._weights[name]
        layer, context = plan.layer, Context(training=False, seed=0 if plan.facts.random else None)
        if not layer.remembers:
            return layer.pure(parameters, buffers, inputs, context)[0]
        state = self._states.get(name) or layer.initial_state(parameters, buffers, inputs)
        values = layer(parameters, buffers, Point(inputs, state, context))
        self._states[name] = advanced(state, values.drift, plan.dynamics.tau)
        return values.output


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
