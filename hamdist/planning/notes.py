"""What is worth knowing of a network before it runs, a line each."""

from collections.abc import Iterator, Mapping

from hamdist.engine.build import Program
from hamdist.engine.fused.obstacles import slow_layers
from hamdist.network.graph import SOURCE, Edge, Graph
from hamdist.network.timing import arrivals, feedback_lag, is_balanced, shortest_hold
from hamdist.physics.midpoint import Midpoint
from hamdist.physics.modules import Residual
from hamdist.physics.statespace.apart import approximated
from hamdist.physics.statespace.walk import memories
from hamdist.physics.step import initial_carry
from hamdist.planning.cautions import cautions
from hamdist.planning.stash_sizes import StashSizes
from hamdist.report.wording import counted, listed, short


def notes_on(program: Program, stashes: Mapping[str, StashSizes]) -> Iterator[str]:
    """The notes, those about time first.  stashes: by layer."""
    yield from _settling(program)
    yield from _cycle(program)
    yield from _drain(program)
    yield from _rates(program)
    yield from cautions(program.outline, unscaled_blocks(program))
    yield from _feedback(program)
    yield from _joins(program.graph)
    yield from _circumstances(program)
    yield from _stashes(program, stashes)
    yield from _midpoint(program)
    yield from _sensitivities(program)
    yield from _slow_layers(program)
    rows = len(program.targets)
    yield (
        f"units: stash, signals and flops are those of a batch of {rows} row{'s' * (rows != 1)}; flops are those of "
        "matrix products, convolutions and attention, forward and reverse"
    )


def unscaled_blocks(program: Program) -> int:
    """The residual blocks whose scale is 1."""
    parts = (part for node in program.nodes.values() for part in node.layer.pure.module.modules())
    return sum(isinstance(part, Residual) and part.scale == 1 for part in parts)


def _settling(program: Program) -> Iterator[str]:
    if program.locality.gate != "settled":
        return
    needed, hold = shortest_hold(program.graph), program.locality.hold
    settling = next(iter(program.nodes.values())).settling
    if settling is None:
        yield f"settled: every sample is held for {hold} ticks; this network needs {needed} to settle exactly"
        return
    why = "feedback" if program.graph.has_feedback else "a relaxing layer with T ≠ τ"
    tolerance, window = settling
    yield (
        f"settled: with {why} no hold settles exactly; a layer learns at the end of a hold of {hold} ticks if "
        f"nothing it hears changed by more than {tolerance:g} (relative) for {window} tick{'s' * (window != 1)}"
    )


def _cycle(program: Program) -> Iterator[str]:
    if program.locality.mode != "cyclic":
        return
    hold = program.locality.hold
    yield (
        f"cyclic: every sample is held for {hold} ticks, in which each layer moves once, in turn; its prediction "
        f"leaves in tick {hold} of these, and costates and weights move at every tick"
    )


def _slow_layers(program: Program) -> Iterator[str]:
    for form, layers in slow_layers(program.nodes.values()).items():
        for name, reason in layers.items():
            yield f"{form.replace('_', ' ')}: {name}, since {reason}"


def _drain(program: Program) -> Iterator[str]:
    if program.drain:
        yield f"drain: after the last sample {program.drain} ticks go on until every layer has learnt from it"


def _rates(program: Program) -> Iterator[str]:
    factors = {name: node.dynamics.rate.delay_factor for name, node in program.nodes.items()}
    scaled = [name for name, factor in factors.items() if factor < 1]
    if scaled:
        least = min(scaled, key=factors.__getitem__)
        yield (
            f"rates: beta is scaled by the delay in {len(scaled)} of {len(factors)} layers ({listed(scaled)}); the "
            f"smallest factor is {factors[least]:.3g}, of {least}, whose costate returns after "
            f"{program.nodes[least].depth} ticks{_by_momentum(program)}"
        )
    if (average := next(iter(program.nodes.values())).dynamics.average) is not None:
        yield (
            f"average: hold-out, predictions and export go by a running mean of the weights, over about "
            f"{1 / (1 - average):.3g} updates"
        )


def _by_momentum(program: Program) -> str:
    factor = next(iter(program.nodes.values())).dynamics.rate.momentum_factor
    return f"; by {factor:.3g} more in all, for momentum" if factor < 1 else ""


def _feedback(program: Program) -> Iterator[str]:
    cut = "" if program.locality.pairing == "current" else ", and returns no costate"
    for name, lag in feedback_lag(program.graph).items():
        yield f"feedback: {name} brings what its layer said of an input {lag} tick{'s' * (lag != 1)} older{cut}"


def _joins(graph: Graph) -> Iterator[str]:
    if is_balanced(graph):
        return
    arrival = arrivals(graph)

    def age(edge: Edge) -> int:
        return arrival[edge.source] + graph.latency(edge.source) + edge.ticks

    for name in graph.layers:
        ages = {edge.source: age(edge) for edge in graph.into(name) if not edge.feedback}
        if len(set(ages.values())) > 1:
            ways = listed([f"{source} after {ticks}" for source, ticks in ages.items()])
            yield f"unbalanced: {name} hears a sample from {ways} ticks, so that samples mix there"


def _circumstances(program: Program) -> Iterator[str]:
    random = [name for name, node in program.nodes.items() if node.facts.random]
    if random:
        yield (
            f"random: {listed(random)} draw{'s' * (len(random) == 1)} from the seed, the layer and the sample, so that "
            "a held sample or a recomputation repeats the draw"
        )
    batch = [name for name, node in program.nodes.items() if node.facts.batch_statistics]
    if batch:
        yield f"batch statistics: {listed(batch)} see{'s' * (len(batch) == 1)} the rows of a short last batch only"


def _midpoint(program: Program) -> Iterator[str]:
    """Along an eigenvalue −λ of f the rule has the factors −λ ± √(1 + λ²)."""
    steps = [name for name, node in program.nodes.items() if isinstance(node.layer.pure.module, Midpoint)]
    if steps:
        carry = "carry" if len(steps) > 1 else "carries"
        yield (
            f"midpoint: {listed(steps)} {carry} two signals; where f is dissipative, with an eigenvalue -λ of its "
            "Jacobian, the rule's parasitic mode grows by λ + √(1 + λ²) a layer, forward as in reconstruction: let f "
            "be small, or turn rather than shrink"
        )


def _stashes(program: Program, stashes: Mapping[str, StashSizes]) -> Iterator[str]:
    """Both forms of the stash, where there is a choice."""
    inputs = sum(sizes.inputs for sizes in stashes.values())
    graph = sum(sizes.graph for sizes in stashes.values())
    if program.locality.pairing == "stashed" and inputs:
        yield (
            f"stash: 'inputs' keeps {short(inputs)}B, for two forward passes a tick; "
            f"'graph' keeps {short(graph)}B, weights included, for one"
        )


def _sensitivities(program: Program) -> Iterator[str]:
    """What `time: exact` keeps, and what it leaves out."""
    exact = {name: node for name, node in program.nodes.items() if node.dynamics.exact}
    if program.locality.exact and not exact:
        yield "exact: no layer has a memory, so that locality.time changes nothing"
    for name, node in exact.items():
        carried = initial_carry(node.layer, node.facts.inputs, node.dynamics).sensitivity
        weights = sum(s[0, 0].numel() for s in carried.values())
        size = sum(s.nbytes for s in carried.values())
        rows, units = next(iter(carried.values())).shape[:2] if carried else (node.batch, 1)
        yield (
            f"exact: {name} carries the derivatives of its state by {counted(weights, 'weight')}, for "
            f"{counted(rows, 'row')} and {counted(units, 'unit')} each: {short(size)}B"
        )
    cells = [name for name, node in exact.items() if any(map(approximated, memories(node.layer.pure.module)))]
    if cells:
        yield (
            f"exact: an approximation in {listed(cells)}, whose units move each other: what they do to each other is "
            "left out, but in the last step (SnAp-1)"
        )
    before = _before(program.graph, set(exact))
    if told := [name for name in program.graph.layers if name in before and program.nodes[name].facts.learns]:
        yield (
            f"exact: not in {listed(told)}, before a memory: what is told there of an input is what it did at once, "
            "not what a memory made of it later"
        )


def _before(graph: Graph, nodes: set[str]) -> set[str]:
    """All from which one of these nodes is reached."""
    found: set[str] = set()
    waiting = list(nodes)
    while waiting:
        heard = {edge.source for edge in graph.into(waiting.pop())} - found
        found |= heard
        waiting += heard - {SOURCE}
    return found
