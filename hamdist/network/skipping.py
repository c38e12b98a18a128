"""Where a sample whose loss is not finite can be left out: it must leave no trace in what those after it meet."""

from hamdist.errors import NetworkError, Problem
from hamdist.network.graph import Graph
from hamdist.network.locality import Locality
from hamdist.network.survey import Facts
from hamdist.network.timing import is_balanced
from hamdist.physics.layers import Layer
from hamdist.report.wording import listed

KEY = "on_bad"
REMEDY = "set on_bad to 'stop' or 'rollback'"


def check_apart(graph: Graph, locality: Locality) -> None:
    """Raises NetworkError where samples meet each other in the network: along feedback, in joins out of balance, and in
    windows of time.
    """
    if feedback := [edge.name for edge in graph.edges if edge.feedback]:
        raise _refused(f"what feedback brings back ({listed(feedback)}) stays bad: {REMEDY}")
    if not is_balanced(graph):
        raise _refused(f"joins out of balance mix it with others: set locality.balance=true, or {REMEDY}")
    if locality.horizon is not None:
        raise _refused(
            f"costates that go back in time speak of many samples at once: set locality.time=forward, or {REMEDY}"
        )


def check_unspoilt(name: str, layer: Layer, facts: Facts) -> None:
    """Raises NetworkError for a layer that keeps something of every sample."""
    if layer.remembers or layer.latency:
        what = "a memory" if layer.remembers else "a state that relaxes"
        raise _refused(f"layer {name!r} has {what}, and one gone bad stays bad: {REMEDY}")
    if facts.moves:
        raise _refused(f"layer {name!r} moves {listed(facts.moves)} with every sample: {REMEDY}")


def _refused(why: str) -> NetworkError:
    return NetworkError(Problem(KEY, f"'skip' leaves out a sample whose loss is not finite, but {why}"))
