"""Why the ticks of a part cannot run as one."""

from collections.abc import Mapping, Sequence

from hamdist.compiler.trace import Traced
from hamdist.engine.channel import Channel, InWay, OutWay
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.loss_node import LossNode
from hamdist.engine.spec import Outline
from hamdist.network.graph import SOURCE
from hamdist.report.wording import listed


def obstacle(
    outline: Outline,
    cells: Mapping[str, LayerNode],
    losses: Mapping[str, LossNode],
    into: Sequence[InWay],
    out_of: Sequence[OutWay],
) -> str:
    """In words for the summary; empty where they can."""
    inner = {way.edge.name for way in out_of if isinstance(way, Channel)}
    edges = [way.edge for way in into] + [way.edge for way in out_of]
    crossing = [edge for edge in edges if edge.source != SOURCE and edge.name not in inner]
    if outline.locality.gate != "always":
        return f"gate {outline.locality.gate} waits for what is heard to settle"
    if outline.locality.horizon is not None:
        return "costates go back through windows of time; only a step back is traced"
    if outline.locality.stash == "graph":
        return "stash graph keeps what was evaluated"
    if outline.mixing:
        return "joins out of balance mix samples"
    if untraced := [repr(name) for name, cell in cells.items() if cell.spec.traced is None]:
        return f"not traced: {listed(untraced)}"
    if undelayed := [edge.name for edge in crossing if edge.ticks == 0]:
        return f"without delay to another actor: {listed(undelayed)}"
    if odd := [repr(node) for node, loss in losses.items() if not _traceable(loss, cells[loss.spec.layer])]:
        return f"not traced: {listed(odd)}"
    return ""


def _traceable(loss: LossNode, cell: LayerNode) -> bool:
    """Whether a loss and its metrics are operations on tensors alone; whatever they raise is a no."""
    try:
        Traced(loss.judge, cell.spec.facts.output, loss.example)
    except Exception:
        return False
    return True
