"""A part of a cut: what of the edges goes into it, what of it a partition needs, and how edges go on from it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from hamdist.engine.channel import InChannel, OutChannel
from hamdist.engine.state import PartitionState, Said, SourceState
from hamdist.errors import RunError
from hamdist.network.graph import SOURCE
from hamdist.report.wording import listed

Item = TypeVar("Item")


def signals_of(ways: Sequence[OutChannel]) -> Said:
    """What was said along edges in the last d ticks, but of those without a delay."""
    return {way.edge.name: way.signals.said(way.edge.ticks) for way in ways if way.edge.ticks}


def costates_of(ways: Sequence[InChannel]) -> Said:
    """What was returned along them; to the source nothing is."""
    delayed = [way for way in ways if way.edge.ticks and way.edge.source != SOURCE]
    return {way.edge.name: way.costates.said(way.edge.ticks) for way in delayed}


def own_part(
    state: PartitionState,
    source: SourceState,
    nodes: Iterable[str],
    losses: Iterable[str],
    into: Sequence[InChannel],
    out_of: Sequence[OutChannel],
) -> PartitionState:
    """What a partition of these nodes and ways needs of a cut, with what the source said to it.

    Raises RunError where something is missing.
    """
    edges = {edge.name: edge for edge in [w.edge for w in into] + [w.edge for w in out_of] if edge.ticks}
    returning = [name for name, edge in edges.items() if edge.source != SOURCE]
    return PartitionState(
        state.tick,
        nodes=_only("layers", nodes, state.nodes),
        losses=_only("losses", losses, state.losses),
        signals=_only("what was said along", edges, state.signals | source.signals),
        costates=_only("what was returned along", returning, state.costates),
    )


def refill(into: Sequence[InChannel], out_of: Sequence[OutChannel], signals: Said, costates: Said) -> None:
    """These are under way along the edges; where they have no delay, nothing is."""
    for inward in into:
        inward.signals.refill(signals.get(inward.edge.name, ()))
        inward.costates.resume(costates.get(inward.edge.name, ()))
    for outward in out_of:
        outward.signals.resume(signals.get(outward.edge.name, ()))
        outward.costates.refill(costates.get(outward.edge.name, ()))


def _only(what: str, names: Iterable[str], among: Mapping[str, Item]) -> dict[str, Item]:
    """Those of these names. Raises RunError where one is not among them."""
    if missing := sorted({*names} - {*among}):
        raise RunError(f"a state of another network: it lacks {what} {listed(missing)}")
    return {name: among[name] for name in names}
