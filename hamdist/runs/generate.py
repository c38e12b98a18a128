"""A finished run's network, running freely: `hamdist generate`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hamdist.config.placement_schema import PlacementConfig
from hamdist.config.schema import RunConfig
from hamdist.engine.build import Program
from hamdist.engine.free_run import Feed, FreeLayer, FreeRun, check_free
from hamdist.engine.node_spec import NodeSpec
from hamdist.errors import StreamError, UserError
from hamdist.network.loading import by_layer
from hamdist.physics.step import Weights
from hamdist.report.wording import listed
from hamdist.runs.assembly import dtype_of, network_keys, stream_keys, stream_of
from hamdist.runs.completeness import load_into, whole_weights
from hamdist.runs.prepare import prepare
from hamdist.runs.trust import check_stream, config_of_run
from hamdist.streams import Batch


class Generated(NamedTuple):
    """One step, counted from 0 after the first batches: what the network said [R, …], and what the stream has there,
    while it lasts."""

    step: int
    output: Tensor
    target: Tensor | None


def generate(
    directory: str | Path, steps: int, feed: Feed = "output", prime: int = 1, trust: bool = False
) -> Iterator[Generated]:
    """Goes through the first `prime` batches of the run's stream, then so many steps on its own; with none, what it
    said of the last of the first is step −1.

    trust: as that of `load_model`. Raises UserError where the directory holds no whole run, or names code that is not
    trusted, StreamError where the stream is too short to start with, NetworkError where outputs do not fit into inputs.
    """
    check_free(steps, feed)
    if prime < 1:
        raise UserError("prime must be 1 or more: memories start from a first input")
    weights = whole_weights(Path(directory))
    if odd := [name for name, value in weights.items() if not _finite(value)]:
        raise UserError(f"{directory}: the run diverged: not all numbers of {listed(odd)} are finite")
    config = config_of_run(Path(directory), trust)
    if not trust:
        check_stream(config.stream)
    if feed == "output" and config.stream.source == "lectures":
        raise UserError("a student of lectures hears a description, not what it said: feed same")
    batches = _batches(config)
    first = list(islice(batches, prime))
    if len(first) < prime:
        raise StreamError(f"the stream has {len(first)} batches, and {prime} are to prime the network with")
    built = _program(config, first[0])
    states = by_layer(weights)
    layers = {
        name: FreeLayer(plan, _restored(plan, states.get(name, {}), directory))
        for name, plan in built.nodes.items()
    }
    free = FreeRun.of(built, layers)
    outputs = free.go(((batch.inputs, batch.restarts) for batch in first), steps, feed)
    coming = chain(batches, [None] * steps) if steps else first[-1:]
    for step, (output, batch) in enumerate(zip(outputs, coming, strict=False), 0 if steps else -1):
        yield Generated(step, output, None if batch is None else batch.targets)


class Distance(NamedTuple):
    """How far what was generated was from the stream, in squares, and over how many steps."""

    mean: float
    steps: int


def errors_of(generated: Iterable[Generated], say: Callable[[dict[str, Any]], None]) -> Distance | None:
    """Says every step, {"step", "y"} and "target" where there is one; None where there was none of numbers."""
    total, steps = 0.0, 0
    for step, output, target in generated:
        line: dict[str, Any] = {"step": step, "y": output.tolist()}
        if target is not None:
            line["target"] = target.tolist()
            if target.shape == output.shape:
                total, steps = total + (output - target).square().mean().item(), steps + 1
        say(line)
    return Distance(total / steps, steps) if steps else None


def _batches(config: RunConfig) -> Iterator[Batch]:
    stream = stream_of(config.stream, config.seed, dtype_of(config.network))
    with stream_keys():
        yield from stream


def _program(config: RunConfig, first: Batch) -> Program:
    """Of the run's network, each sample held for one tick, since nothing is to settle."""
    mode = {"mode": "local"} if config.locality.mode == "cyclic" else {}
    changes = {
        "stream": config.stream.model_copy(update={"hold": 1}),
        "locality": config.locality.model_copy(
            update={"gate": "always", "time": "forward", "horizon": None} | mode
        ),
        "placement": PlacementConfig(device="cpu"),
    }
    with network_keys():
        return prepare(config.model_copy(update=changes)).built(first[:2])


def _finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def _restored(plan: NodeSpec, state: Mapping[str, Any], directory: str | Path) -> Weights:
    """The run's weights; what a state_dict does not hold is as the layer is made."""
    pure = plan.layer.pure
    load_into(pure.module, state, directory)
    return Weights(pure.parameters(), pure.buffers())
