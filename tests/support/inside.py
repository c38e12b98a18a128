"""What tests ask of a runtime that it has no public word for; here alone its privates are reached."""

from collections.abc import Iterator, Sequence

from hamdist.cluster.worker import Worker
from hamdist.engine.channel import Channel
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.loss_node import Prediction
from hamdist.engine.state import PartitionState


def channels(runtime: InlineRuntime) -> Sequence[Channel]:
    """Those of all edges, in edge order, with what lies in them between two ticks."""
    return runtime._channels


def kept_cut(worker: Worker, tick: int) -> PartitionState:
    """What a worker keeps of its cut at a tick."""
    return worker._cuts.at(tick)


def silence(runtime: InlineRuntime, ticks: int) -> Iterator[Prediction]:
    """So many ticks in which nothing enters."""
    return runtime._wait(ticks)
