"""What a layer's tick costs, estimated without its weights: on the `meta` device, where tensors have shapes only."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hamdist.engine.spec import Outline
from hamdist.network.graph import SOURCE
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.survey import signals_into, survey_order
from hamdist.physics.layers import Layer
from hamdist.physics.pure_module import Context

PER_PARAMETER = 16.0  # operations of a forward pass that take as long as moving one parameter and its costate
PER_ELEMENT = 4.0  # and as reading and writing one element of a signal


def warm_up() -> None:
    """The first operation on `meta` loads torch's compiler, for a second or two: something to do while others start."""
    torch.empty(1, device="meta").add(1)


def layer_costs(outline: Outline, specs: Sequence[LayerSpec], inputs: Tensor) -> dict[str, float]:
    """Operations of a forward pass by layer, with what it costs to move parameters and signals; one layer at a time.

    inputs: the first batch's. A layer that cannot be made without memory is made on the CPU, and dropped again.
    Raises NetworkError for a layer that cannot be made.
    """
    by_name = {spec.name: spec for spec in specs}
    outputs = {SOURCE: torch.empty_like(inputs, device="meta")}
    costs = {}
    for name in survey_order(outline.graph):
        costs[name], outputs[name] = _cost(outline, by_name[name], outputs)
    return {spec.name: costs[spec.name] for spec in specs}


def _cost(outline: Outline, spec: LayerSpec, outputs: dict[str, Tensor]) -> tuple[float, Tensor]:
    try:
        with torch.device("meta"):
            layer = spec.make(outline.seed, outline.dtype, torch.device("meta"))
        return _counted(outline, spec, layer, outputs)
    except Exception:  # a module that insists on memory; if it fails there, too, its own error is told
        layer = spec.make(outline.seed, outline.dtype, torch.device("cpu"))
        real = {node: torch.zeros_like(output, device="cpu") for node, output in outputs.items()}
        cost, output = _counted(outline, spec, layer, real)
        return cost, output.to("meta")


def _counted(
    outline: Outline, spec: LayerSpec, layer: Layer, outputs: dict[str, Tensor]
) -> tuple[float, Tensor]:
    signals = signals_into(outline.graph, spec.name, outputs, spec.join)
    layer.pure.materialise(signals)
    parameters, buffers = layer.pure.parameters(), layer.pure.buffers()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output, _ = layer.pure(parameters, buffers, signals, Context(training=False))
    moved = sum(parameter.numel() for parameter in parameters.values())
    elements = output.numel() + sum(signal.numel() for signal in signals)
    return counter.get_total_flops() + PER_PARAMETER * moved + PER_ELEMENT * elements, output
