"""A finished run's network, running freely: `hamdist generate`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hamdist.config.loader import load
from hamdist.config.placement_schema import PlacementConfig
from hamdist.config.schema import RunConfig
from hamdist.engine.build import Program
from hamdist.engine.free_run import Feed, FreeLayer, FreeRun
from hamdist.engine.node_spec import NodeSpec
from hamdist.errors import StreamError, UserError
from hamdist.physics.step import Weights
from hamdist.report.wording import listed
from hamdist.runs.assembly import dtype_of, network_keys, stream_keys, stream_of
from hamdist.runs.completeness import by_layer, load_into, whole_weights
from hamdist.runs.prepare import prepare
from hamdist.runs.record import CONFIG
from hamdist.streams import Batch


class Generated(NamedTuple):
    """One step: what the network said [R, …], and what the stream has there, while it lasts."""

    output: Tensor
    target: Tensor | None


def generate(directory: str | Path, steps: int, feed: Feed = "output", prime: int = 1) -> Iterator[Generated]:
    """Goes through the first `prime` batches of the run's stream, then so many steps on its own.

    Raises UserError where the directory holds no whole run, StreamError where the stream is too short to start
    with, NetworkError where outputs do not fit into inputs.
    """
    if prime < 1:
        raise UserError("prime must be 1 or more: memories start from a first input")
    weights = whole_weights(Path(directory))
    if odd := [name for name, value in weights.items() if not _finite(value)]:
        raise UserError(f"{directory}: the run diverged: not all numbers of {listed(odd)} are finite")
    config = load(Path(directory) / CONFIG).config
    if feed == "output" and config.stream.source == "lectures":
        raise UserError("a student of lectures hears a description, not what it said: feed same")
    batches = _batches(config)
    first = list(islice(batches, prime))
    if len(first) < prime:
        raise StreamError(f"the stream has {len(first)} batches, and {prime} are to prime the network with")
    built = _program(config, first[0])
    states, whose = by_layer(weights), f"the weights in {directory}"
    layers = {
        name: FreeLayer(plan, _restored(plan, states.get(name, {}), whose))
        for name, plan in built.nodes.items()
    }
    free = FreeRun.of(built, layers)
    outputs = free.go((batch.inputs for batch in first), steps, feed)
    for output, batch in zip(outputs, chain(batches, [None] * steps), strict=False):
        yield Generated(output, None if batch is None else batch.targets)


class Distance(NamedTuple):
    """How far what was generated was from the stream, in squares, and over how many steps."""

    mean: float
    steps: int


def errors_of(generated: Iterable[Generated], say: Callable[[dict[str, Any]], None]) -> Distance | None:
    """Says every step, {"step", "y"} and "target" where there is one; None where there was none of numbers."""
    total, steps = 0.0, 0
    for step, (output, target) in enumerate(generated):
        line: dict[str, Any] = {"step": step, "y": output.tolist()}
        if target is not None:
            line["target"] = target.tolist()
            if target.shape == output.shape:
                total, steps = total + (output - target).square().mean().item(), steps + 1
        say(line)
    return Distance(total / steps, steps) if steps else None


def _batches(config: RunConfig) -> Iterator[Batch]:
    with stream_keys():
        yield from stream_of(config.stream, config.seed, dtype_of(config.network))


def _program(config: RunConfig, first: Batch) -> Program:
    """Of the run's network, each sample held for one tick, since nothing is to settle."""
    changes = {
        "stream": config.stream.model_copy(update={"hold": 1}),
        "locality": config.locality.model_copy(update={"gate": "always", "horizon": None}),
        "placement": PlacementConfig(device="cpu"),
    }
    with network_keys():
        return prepare(config.model_copy(update=changes)).built(first[:2])


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def _restored(plan: NodeSpec, state: Mapping[str, Any], whose: str) -> Weights:
    """The run's weights; what a state_dict does not hold is as the layer is made."""
    pure = plan.layer.pure
    load_into(pure.module, state, whose)
    return Weights(pure.parameters(), pure.buffers())
