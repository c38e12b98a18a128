"""The plan of a program: what every layer and edge will cost, measured on the first batch."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hamdist.engine.build import Program
from hamdist.engine.node_spec import NodeSpec
from hamdist.network.graph import SOURCE, Edge
from hamdist.network.timing import arrivals, feedback_lag
from hamdist.physics.hamiltonian import Wanted
from hamdist.physics.layers import Layer, Point, Relaxing
from hamdist.physics.memory import Pairing, Returned, pairing_of
from hamdist.physics.midpoint import Midpoint
from hamdist.physics.modules import is_residual, is_sequence
from hamdist.physics.step import Carry, Motion, initial_carry, valued
from hamdist.planning.notes import notes_on
from hamdist.planning.plan import EdgeRow, LayerRow, Plan
from hamdist.planning.stash_sizes import StashSizes, stash_sizes


class Host(NamedTuple):
    """Where a layer will live: the number of its actor, and the device."""

    actor: int
    device: str


def plan_of(program: Program, hosts: Mapping[str, Host] | None = None) -> Plan:
    """The plan of a program; nothing of the program moves. hosts: by layer; None: all in this process."""
    with torch.no_grad():
        stashes = {name: stash_sizes(node) for name, node in program.nodes.items()}
    return Plan(
        layers=tuple(_layer_rows(program, hosts or {}, stashes)),
        edges=tuple(_edge_rows(program)),
        notes=tuple(notes_on(program, stashes)),
        graph=program.graph,
    )


def operations(node: NodeSpec) -> int:
    """Floating-point operations of one tick in which the layer learns, counted as they happen.

    Forward and reverse, and what the pairing recomputes or inverts; matrix products, convolutions and attention only.
    """
    facts, carry = node.facts, initial_carry(node.layer, node.facts.inputs, node.dynamics)
    motion = Motion(node.layer, node.dynamics, Wanted(True, facts.wanted))
    pairing = pairing_of(node.pairing, node.layer, node.depth, node.stash)
    here = Point(facts.inputs, carry.state, facts.context())
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        point = here if pairing.linearises else _met(motion, carry, pairing, here)
        _, pullback = valued(motion, carry, point)
        assert pullback is not None
        pullback(torch.zeros_like(facts.output), carry.state_costate)
    return counter.get_total_flops()


def _met(motion: Motion, carry: Carry, pairing: Pairing, here: Point) -> Point:
    """Evaluates at the present point, and finds another like it to meet the costate, as the pairing does."""
    values, _ = valued(motion, carry, here, linearises=False)
    returned = Returned(values.output, here.context, motion.layer, carry)
    recalled = pairing.recall(pairing.empty(), 0, returned)
    return here if recalled is None else recalled.point


def kind_of(layer: Layer) -> str:
    """ "Residual(Linear+Tanh)", "relaxing Linear, T = 2"."""
    described = _described(layer.pure.module)
    return f"relaxing {described}, T = {layer.time_constant:g}" if isinstance(layer, Relaxing) else described


def _described(module: nn.Module) -> str:
    if is_residual(module):
        scaled = "" if module.scale == 1 else f", scale {module.scale:.3g}"
        return f"Residual({_described(module.body)}{scaled})"
    if isinstance(module, Midpoint):
        return f"Midpoint({_described(module.body)})"
    if is_sequence(module) and len(module):
        parts = [_described(part) for part in module]
        return "+".join(parts if len(parts) <= 4 else [*parts[:2], "…", parts[-1]])
    return type(module).__name__


def _layer_rows(
    program: Program, hosts: Mapping[str, Host], stashes: Mapping[str, StashSizes]
) -> Iterator[LayerRow]:
    arrival = arrivals(program.graph)
    for name, node in program.nodes.items():
        host = hosts.get(name, Host(0, str(node.facts.output.device)))
        facts, parameters = node.facts, node.layer.pure.parameters()
        shapes = tuple(tuple(signal.shape[1:]) for signal in facts.inputs)
        yield LayerRow(
            name=name,
            kind=kind_of(node.layer),
            parameters=sum(p.numel() for p in parameters.values()),
            inputs_shape=shapes[0] if len(shapes) == 1 else shapes,
            output_shape=tuple(facts.output.shape[1:]),
            arrival=arrival[name],
            depth_delay=node.depth,
            stash_bytes=stashes[name].of(node.stash),
            flops=operations(node),
            device=host.device,
            actor=host.actor,
        )


def _edge_rows(program: Program) -> Iterator[EdgeRow]:
    lags = feedback_lag(program.graph)
    for edge in program.graph.edges:
        kind = "feedback" if edge.feedback else "forward"
        size = _signal(program, edge).nbytes
        yield EdgeRow(edge.source, edge.target, edge.ticks, kind, size, lags.get(edge.name))


def _signal(program: Program, edge: Edge) -> Tensor:
    """A tensor as the edge carries it."""
    if edge.source != SOURCE:
        return program.nodes[edge.source].facts.output
    if edge.target in program.graph.losses:
        return program.targets
    into = program.graph.into(edge.target)
    return program.nodes[edge.target].facts.inputs[into.index(edge)]
