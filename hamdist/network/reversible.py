"""What the reversible pairing asks of a network: layers that can be inverted, in a chain, and not random."""

from collections.abc import Mapping

import torch

from hamdist.errors import NetworkError, Problem
from hamdist.network.graph import Graph
from hamdist.network.network import Network
from hamdist.network.survey import Facts
from hamdist.physics.layers import Context, Layer


def check_reversible(
    network: Network, graph: Graph, layers: Mapping[str, Layer], facts: Mapping[str, Facts]
) -> None:
    """The reversible pairing needs layers that can be inverted, are not random, and stand in a chain."""
    keys = {spec.name: spec.key for spec in network.layers}
    reversible = [name for name, layer in layers.items() if layer.invertible]
    if not reversible:
        raise NetworkError(
            Problem(
                "locality.pairing",
                f"'reversible' needs layers that can be inverted, and none of {', '.join(layers)} "
                "has an inverse: use coupling layers (or a module with an inverse method), or pairing: stashed",
            )
        )
    problems = []
    for name in reversible:
        if len(graph.into(name)) != 1 or len(graph.out_of(name)) != 1:
            problems.append(
                Problem(keys[name], f"reversible layer {name!r} must have one in-edge and one out-edge")
            )
        elif facts[name].random:
            problems.append(
                Problem(
                    keys[name],
                    f"reversible layer {name!r} draws random numbers, which its inverse cannot repeat: "
                    "take out the dropout, or use pairing: stashed",
                )
            )
        else:
            problems += _inverse_problems(layers[name], facts[name], name, keys[name])
    if problems:
        raise NetworkError(*problems)


def _inverse_problems(layer: Layer, facts: Facts, name: str, key: str) -> list[Problem]:
    """Inverts one evaluation and compares."""
    pure, (inputs,) = layer.pure, facts.inputs
    probe = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)).to(inputs)
    with torch.no_grad():
        parameters, buffers = pure.parameters(), pure.buffers()
        try:
            output, _ = pure(parameters, buffers, (probe,), Context())
            back = pure.inverse(parameters, buffers, output, Context())
        except Exception as error:
            return [Problem(key, f"layer {name!r}: its inverse fails: {error}")]
    if back.shape != probe.shape or not torch.allclose(back, probe, rtol=1e-3, atol=1e-3):
        return [Problem(key, f"layer {name!r}: its inverse does not give back its input")]
    return []
