"""A network with memories as one ordinary module, which takes sequences and hands on its state, as nn.LSTM does."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn

from hamdist.errors import NetworkError
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.network import Network
from hamdist.network.plain_graph import PlainLayers
from hamdist.network.wording import describe
from hamdist.physics.statespace.contract import State
from hamdist.physics.statespace.walk import StepForward, memories


class PlainSequence(PlainLayers):
    """Of a sequence [B, T, …] the outputs [B, T, …], and the state after it, with which the next piece goes on.

        outputs, state = model(pieces[0])           # memories begin at their start
        outputs, state = model(pieces[1], state)    # and go on

    The state is a tuple of tensors [B, …], the components of all memories in the order of the layers.
    """

    def __init__(self, network: Network, modules: Mapping[str, nn.Module]) -> None:
        super().__init__(network, modules)
        self.tau = network.tau
        self.reads = {spec.name: spec.reads for spec in network.layers}
        self._components = {
            name: sum(memory.components for memory in memories(module)) for name, module in modules.items()
        }

    def forward(
        self, x: Tensor, state: State | None = None, restarts: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """x [B, T, …].  state: as it was given after what came before; None at the start.  restarts: flags [B, T] of
        the rows that begin anew at an input. Raises NetworkError."""
        self._check(x, state, restarts)
        outputs = []
        for tick, a in enumerate(x.unbind(1)):
            output, state = self.step(a, state, None if restarts is None else restarts[:, tick])
            outputs.append(output)
        assert state is not None
        return torch.stack(outputs, 1), state

    def step(
        self, a: Tensor, state: State | None = None, restarts: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """One input [B, …]: the output [B, …], and the state after it.  restarts: flags [B]."""
        before, after = self._by_layer(state), {}

        def call(name: str, arguments: tuple[Tensor, ...]) -> Tensor:
            step = StepForward(self.tau, self.reads[name], before.get(name), restarts)
            output = step(self.get_submodule(name), *arguments)
            after[name] = step.after
            return output

        output = self._passed(a, call)
        return output, tuple(xi for name in self._components for xi in after[name])

    def specs(self) -> tuple[LayerSpec, ...]:
        return tuple(replace(spec, reads=self.reads[spec.name]) for spec in super().specs())

    def _by_layer(self, state: State | None) -> dict[str, State]:
        """The state in pieces; empty where there is none."""
        if state is None:
            return {}
        pieces = iter(state)
        return {name: tuple(islice(pieces, count)) for name, count in self._components.items()}

    def _check(self, x: Tensor, state: State | None, restarts: Tensor | None) -> None:
        if x.dim() < 2 or not x.shape[1]:
            raise NetworkError(f"expected sequences [B, T, …] of one input or more, got {describe(x)}")
        expected = sum(self._components.values())
        if state is not None and (len(state) != expected or any(len(xi) != len(x) for xi in state)):
            given = ", ".join(str(list(xi.shape)) for xi in state)
            raise NetworkError(
                f"expected a state of {expected} tensors with the {len(x)} rows of x, got {given or 'none'}"
            )
        if restarts is not None and (restarts.dtype != torch.bool or restarts.shape != x.shape[:2]):
            raise NetworkError(
                f"restarts are booleans {list(x.shape[:2])}, one an input, not {describe(restarts)}"
            )
