"""Why layers do not run as one, or are not traced at all, and why the ticks of a partition cannot run as one."""

from collections.abc import Iterable, Mapping, Sequence

from hamdist.compiler.trace import Traced
from hamdist.engine.channel import Channel, InChannel, OutChannel
from hamdist.engine.fused.eligibility import in_words
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.loss_node import LossNode
from hamdist.engine.node_spec import NodeSpec
from hamdist.engine.spec import Outline
from hamdist.network.graph import SOURCE
from hamdist.report.wording import listed


def slow_layers(specs: Iterable[NodeSpec]) -> dict[str, dict[str, str]]:
    """Layers that are not traced, and those that do not stack, by name, and why; as the summary says it.

    Nothing of a run in which layers are not to be stacked.
    """
    known = list(specs)
    found = {
        "not_traced": {spec.name: spec.fit.untraced for spec in known if spec.fit.untraced},
        "not_stacked": {spec.name: spec.fit.unstacked for spec in known if spec.fit.unstacked},
    }
    return {form: layers for form, layers in found.items() if layers}


def obstacle(
    outline: Outline,
    nodes: Mapping[str, LayerNode],
    losses: Mapping[str, LossNode],
    into: Sequence[InChannel],
    out_of: Sequence[OutChannel],
) -> str:
    """In words for the summary; empty where they can."""
    inner = {way.edge.name for way in out_of if isinstance(way, Channel)}
    edges = [way.edge for way in into] + [way.edge for way in out_of]
    crossing = [edge for edge in edges if edge.source != SOURCE and edge.name not in inner]
    if outline.learning.skips:
        return "on_bad: skip looks at each loss before it is learnt from"
    if outline.locality.gate != "always":
        return f"gate {outline.locality.gate} waits for what is heard to settle"
    if outline.locality.holds_outputs:
        return "mode cyclic moves the state of one layer a tick"
    if outline.locality.horizon is not None:
        return "costates go back through windows of time; only a step back is traced"
    if outline.locality.stash == "graph":
        return "stash graph keeps what was evaluated"
    if outline.mixing:
        return "joins out of balance mix samples"
    if untraced := [repr(name) for name, node in nodes.items() if node.spec.traced is None]:
        return f"not traced: {listed(untraced)}"
    if undelayed := [edge.name for edge in crossing if edge.ticks == 0]:
        return f"without delay to another actor: {listed(undelayed)}"
    for node, loss in losses.items():
        if why := _untraced(loss, nodes[loss.spec.layer]):
            return f"not traced: {node!r}, since {why}"
    return ""


def _untraced(loss: LossNode, bearer: LayerNode) -> str:
    """Why a loss and its metrics are not operations on tensors alone; empty where they are."""
    try:
        Traced(loss.judge, bearer.spec.facts.output, loss.example)
    except Exception as error:
        return in_words(error)
    return ""
