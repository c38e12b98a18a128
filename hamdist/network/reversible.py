"""What the reversible pairing asks of a network: layers that can be inverted, in a chain, and not random."""

import torch

from hamdist.errors import NetworkError, Problem
from hamdist.network.graph import Graph
from hamdist.network.survey import Facts
from hamdist.network.wording import all_of
from hamdist.physics.layers import Layer
from hamdist.physics.pure_module import Context


def check_some_reversible(graph: Graph, some: bool) -> None:
    """Raises NetworkError where no layer of the network has an inverse."""
    if not some:
        raise NetworkError(
            Problem(
                "locality.pairing",
                f"'reversible' needs layers that can be inverted, and none of {all_of(graph.layers)} "
                "has an inverse: use coupling layers (or a module with an inverse method), or pairing: stashed",
            )
        )


def reversible_problems(graph: Graph, name: str, layer: Layer, facts: Facts, key: str) -> list[Problem]:
    """What stands in the way of inverting one layer; nothing where it has no inverse: it stashes."""
    if not layer.invertible:
        return []
    if len(graph.into(name)) != 1 or len(graph.out_of(name)) != 1:
        return [Problem(key, f"reversible layer {name!r} must have one in-edge and one out-edge")]
    if facts.random:
        return [
            Problem(
                key,
                f"reversible layer {name!r} draws random numbers, which its inverse cannot repeat: "
                "take out the dropout, or use pairing: stashed",
            )
        ]
    return _inverse_problems(layer, facts, name, key)


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
