"""N layers of equal structure as one: every tensor has them along a first dimension, and each sees only its own.

Depth becomes batch: layers that do not wait for each other compute in one operation.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hamdist.physics.layers import Layer, Point, Values
from hamdist.physics.pure_module import Context, Tensors


class Stack(Layer):
    """Parameters, buffers, inputs, states and outputs of `layer`, with the N members first: [N, …]."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.pure)
        self.layer = layer
        self.latency, self.remembers = layer.latency, layer.remembers

    @property
    def invertible(self) -> bool:
        return self.layer.invertible

    def initial_state(
        self, parameters: Tensors, buffers: Tensors, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return torch.vmap(self.layer.initial_state)(parameters, buffers, inputs)

    def restarted(
        self,
        parameters: Tensors,
        buffers: Tensors,
        inputs: tuple[Tensor, ...],
        state: tuple[Tensor, ...],
        restarts: Tensor,
    ) -> tuple[Tensor, ...]:
        return torch.vmap(self.layer.restarted)(parameters, buffers, inputs, state, restarts)

    def carried_sensitivity(
        self,
        parameters: Tensors,
        buffers: Tensors,
        point: Point,
        sensitivity: Tensors,
        costate: tuple[Tensor, ...],
    ) -> tuple[Tensors, Tensors]:
        def one(
            parameters: Tensors,
            buffers: Tensors,
            inputs: tuple[Tensor, ...],
            state: tuple[Tensor, ...],
            restarts: Tensor | None,
            *others: Any,
        ) -> tuple[Tensors, Tensors]:
            met = Point(inputs, state, point.context, restarts)
            return self.layer.carried_sensitivity(parameters, buffers, met, *others)

        flags = None if point.restarts is None else 0
        return torch.vmap(one, in_dims=(0, 0, 0, 0, flags, 0, 0))(
            parameters, buffers, point.inputs, point.state, point.restarts, sensitivity, costate
        )

    def __call__(self, parameters: Mapping[str, Tensor], buffers: Tensors, point: Point) -> Values:
        def one(
            parameters: Tensors,
            buffers: Tensors,
            inputs: tuple[Tensor, ...],
            state: tuple[Tensor, ...],
            restarts: Tensor | None,
        ) -> tuple[Tensor, tuple[Tensor, ...]]:
            values = self.layer(parameters, buffers, Point(inputs, state, point.context, restarts))
            return values.output, values.drift

        flags = None if point.restarts is None else 0
        output, drift = torch.vmap(one, in_dims=(0, 0, 0, 0, flags))(
            dict(parameters), buffers, point.inputs, point.state, point.restarts
        )
        return Values(output, drift, buffers)

    def inverse(self, parameters: Tensors, buffers: Tensors, output: Tensor, context: Context) -> Tensor:
        def one(parameters: Tensors, buffers: Tensors, output: Tensor) -> Tensor:
            return self.layer.inverse(parameters, buffers, output, context)

        return torch.vmap(one)(parameters, buffers, output)
