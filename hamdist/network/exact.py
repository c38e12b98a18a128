"""What exact gradients forward in time ask of a layer: one memory whose units move each by themselves, and no weights
before it."""

import torch

from hamdist.errors import NetworkError, Problem
from hamdist.network.network import Network
from hamdist.network.survey import Facts
from hamdist.network.trial import lively
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.layers import Layer
from hamdist.physics.statespace.apart import NEIGHBOURS, has_sensitivity
from hamdist.physics.statespace.cells import KINDS
from hamdist.physics.statespace.layer import StateSpaceLayer
from hamdist.physics.statespace.walk import Memory, memories
from hamdist.report.wording import listed

_KINDS = ", ".join([*(kind.__name__ for kind in NEIGHBOURS), *KINDS])


def check_costates(network: Network, dynamics: Dynamics) -> None:
    """Raises NetworkError for constants of state costates where there are none: a memory's stay zero."""
    if any(spec.relaxing is not None for spec in network.layers):
        return
    given = {"clip": dynamics.clip, "dissipation.state": dynamics.state_dissipation}
    problems = [
        Problem(
            f"learning.{key}",
            "is of state costates, which no layer has with locality.time=exact: leave it out, or set "
            "locality.time=forward",
        )
        for key, value in given.items()
        if value
    ]
    if problems:
        raise NetworkError(*problems)


def exact_problems(name: str, layer: Layer, facts: Facts, key: str) -> list[Problem]:
    """Why a layer cannot carry the derivatives of its state by its weights; nothing where it has no memory."""
    if not isinstance(layer, StateSpaceLayer):
        return []
    why = _why_not(layer, facts, memories(layer.pure.module))
    return [Problem(key, f"layer {name!r} {why} (locality.time: exact)")] if why else []


def _why_not(layer: StateSpaceLayer, facts: Facts, found: list[Memory]) -> str:
    if len(found) > 1:
        kinds = listed([memory.kind for memory in found])
        return f"has {len(found)} memories ({kinds}), and can learn exactly by one: split it into a layer for each"
    if not has_sensitivity(found[0]):
        return (
            f"has a memory ({found[0].kind}) whose units move each other, or are not known not to: use one of "
            f"{_KINDS}, or set locality.time to backward or forward"
        )
    inputs = tuple(lively(a) for a in facts.inputs)
    with torch.no_grad():
        if before := layer.weights_before(inputs):
            return (
                f"has weights before its memory ({listed(before)}), which the past moves as well: split it there, so "
                "that they are a layer of their own"
            )
        if stray := layer.stray_weights(inputs):
            return (
                f"has a memory with weights ({listed(stray)}) that move other units than those of their rows: take out "
                "what makes them of others, such as a parametrization, or set locality.time to backward or forward"
            )
    return ""
