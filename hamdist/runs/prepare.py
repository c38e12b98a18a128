"""What is to be run, before anything is started: `prepare`; then its stream, opened; then its layers, built.

Whoever runs a network begins here, in one process or over actors, to the end of a stream or batch by batch; so do
`check`, `plan` and `generate`.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from hamdist.cluster.intake import SEND_AGAIN
from hamdist.cluster.outcome import stream_opening
from hamdist.cluster.source_part import SourcePart
from hamdist.config.placement_schema import PlacementConfig
from hamdist.config.schema import RunConfig
from hamdist.engine.build import Program, build
from hamdist.engine.device import local_device, moved
from hamdist.engine.spec import Outline, outline_of
from hamdist.network.learning import Learning
from hamdist.network.locality import Locality, apply_locality
from hamdist.network.network import Network
from hamdist.report.wording import counted
from hamdist.runs.assembly import (
    check_placement,
    dtype_of,
    execution_of,
    learning_of,
    locality_of,
    network_keys,
    network_of,
    run_stream,
    stream_keys,
)
from hamdist.streams import Batch, Stream

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSetup:
    """A network with all that every process of a run must know of it; nothing of it is built yet.

    placement: where its layers are to live.  metrics_every: samples between two lines of metrics.  profile: whether to
    record where the time goes.  labels: of the classes, where predictions are wanted; None where they are not.
    """

    network: Network
    outline: Outline
    placement: PlacementConfig
    metrics_every: int = 1000
    profile: bool = False
    labels: tuple[Any, ...] | None = None

    def lowered(self, factor: float) -> "RunSetup":
        """The same with β times a factor."""
        learning = self.outline.learning.lowered(factor)
        return replace(self, outline=replace(self.outline, learning=learning))

    def live(self) -> "RunSetup":
        """The same, tick by tick, so that no sample waits for the next."""
        execution = replace(self.outline.execution, chunk=1)
        return replace(self, outline=replace(self.outline, execution=execution))

    def built(self, first: tuple[torch.Tensor, torch.Tensor | None]) -> Program:
        """All layers, built in this process. first: the first batch, where they are to be.

        Raises NetworkError for whatever cannot run.
        """
        return build(self.outline, self.network.layers, first)


def setup_of(
    network: Network,
    locality: Locality,
    learning: Learning,
    placement: PlacementConfig,
    seed: int,
    dtype: torch.dtype,
) -> RunSetup:
    """Raises NetworkError for what is wrong with the network as a whole."""
    outline = outline_of(network, locality, learning, seed, dtype, execution_of(placement))
    return RunSetup(network, outline, placement)


def prepare(config: RunConfig, profile: bool = False) -> RunSetup:
    """Raises NetworkError, with the keys of the config, for what is wrong with the network as a whole."""
    with network_keys():
        network = network_of(config.network, config.seed)
    check_placement(config.placement, network.names)
    locality = locality_of(config.locality, network.names, config.stream.hold)
    with network_keys("network.edges"):
        apply_locality(network.graph, locality)
    learning, dtype = learning_of(config.learning), dtype_of(config.network)
    learning = replace(learning, skips=config.on_bad == "skip")
    with network_keys():
        setup = setup_of(network, locality, learning, config.placement, config.seed, dtype)
    return replace(setup, metrics_every=config.metrics_every, profile=profile)


@dataclass(frozen=True)
class OpenStream:
    """A stream of which the first batch was read, to learn the shapes; `batches` begin with it, or with what follows
    the cut that a run goes on from.

    asked: how many samples the config asks for, None: all.
    """

    stream: Stream
    first: Batch
    batches: "Handed"
    asked: int | None = None


class Handed(Iterator[Batch]):
    """read: batches that were read and are to be handed out before those that follow.

    position: the stream's, after the batch handed out last; `start` until then.
    """

    def __init__(
        self, stream: Stream, batches: Iterator[Batch], start: Mapping[str, Any], *read: Batch
    ) -> None:
        self._stream, self._batches, self._start, self._read = stream, batches, start, list(read)
        self._handed = False

    def __next__(self) -> Batch:
        batch = self._read.pop(0) if self._read else next(self._batches)
        self._handed = True
        return batch

    @property
    def position(self) -> Mapping[str, Any]:
        return self._stream.state_dict() if self._handed else self._start


def open_stream_of(config: RunConfig) -> OpenStream:
    """Raises StreamError, MissingExtraError and ConfigError with the keys of the config; StreamExitError."""
    _log.info("waiting for the first batch of the stream")
    with stream_opening():
        stream = run_stream(config)
    with stream_keys(), stream_opening():
        start, batches = stream.state_dict(), iter(stream)
        first = next(batches)
    return OpenStream(stream, first, Handed(stream, batches, start, first), config.stream.samples)


def stream_after(config: RunConfig, part: SourcePart) -> OpenStream:
    """The config's stream, which goes on after a cut; one that cannot seek must be sent again from there on.

    Raises what `open_stream_of` raises.
    """
    with stream_opening():
        stream = run_stream(config)
        with stream_keys():
            stream.load_state_dict(part.stream)
            batches = iter(stream)
    if not stream.seeks:
        _log.warning(SEND_AGAIN, stream.taken)
    return OpenStream(stream, Batch(*part.first), Handed(stream, batches, part.stream), config.stream.samples)


def built_here(setup: RunSetup, stream: OpenStream) -> Program:
    """The layers, built in this process for the first batch of their stream, on the device of the placement.

    Raises NetworkError for whatever cannot run, ConfigError for a device that is not there.
    """
    device = local_device(setup.placement.device)
    _log.info("building %s", counted(len(setup.network.names), "layer"))
    with network_keys():
        return (setup.live() if stream.stream.live else setup).built(on(device, stream.first)[:2])


def on(device: torch.device, batch: Batch) -> Batch:
    """The batch on a device."""
    targets = None if batch.targets is None else moved(batch.targets, device)
    return Batch(moved(batch.inputs, device), targets, batch.restarts)
