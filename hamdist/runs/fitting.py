"""Whether a checkpoint is of the network that is to go on from it, which code of the user's may have made anew."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from hamdist.engine.inline import InlineRuntime
from hamdist.engine.state import RuntimeState
from hamdist.network.wording import describe
from hamdist.runs.checkpoint_part import CheckpointError


def fitting(state: RuntimeState, runtime: InlineRuntime) -> RuntimeState:
    """The state. Raises CheckpointError naming layers, losses, weights and buffers that do not fit."""
    problems = [
        *_named("layer", state.partition.nodes, runtime.nodes),
        *_named("loss", state.partition.losses, runtime.losses),
        *_shaped(state, runtime),
    ]
    if problems:
        raise CheckpointError(
            f"the checkpoint of tick {state.partition.tick} is of another network: " + "; ".join(problems)
        )
    return state


def _named(what: str, there: Mapping[str, object], here: Mapping[str, object]) -> Iterator[str]:
    for name in here.keys() - there.keys():
        yield f"it has no {what} {name!r}"
    for name in there.keys() - here.keys():
        yield f"its {what} {name!r} is not in this one"


def _shaped(state: RuntimeState, runtime: InlineRuntime) -> Iterator[str]:
    for name, node in runtime.nodes.items():
        if name not in state.partition.nodes:
            continue
        carry = state.partition.nodes[name].carry
        before, now = carry.parameters | carry.buffers, node.carry.parameters | node.carry.buffers
        for key in dict.fromkeys((*now, *before)):
            if _of(before, key) != _of(now, key):
                yield f"{name}.{key} is {_of(before, key)} there and {_of(now, key)} here"


def _of(tensors: Mapping[str, Tensor], key: str) -> str:
    return describe(tensors[key]) if key in tensors else "not there"
