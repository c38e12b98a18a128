"""`check`: every mistake in a config at once, each with its place, without running it.

A section with a mistake in it must not hide those of the others: each is looked at by itself as far as it is sound, and
then with the others, as far as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from hamdist.config.loader import Sections, load_sections
from hamdist.engine.build import examine_all
from hamdist.engine.device import local_device
from hamdist.errors import ConfigError, StreamError, UserError
from hamdist.network.graph import Graph
from hamdist.network.layer_spec import make_layers
from hamdist.network.locality import apply_locality
from hamdist.network.loss_fit import check_loss
from hamdist.network.network import Network
from hamdist.network.survey import Facts, Heard, examine, survey, tensors_like
from hamdist.physics.layers import Layer
from hamdist.planning.cautions import cautions
from hamdist.planning.notes import unscaled_blocks
from hamdist.runs.assembly import (
    check_placement,
    dtype_of,
    locality_of,
    network_keys,
    network_of,
    stream_keys,
    stream_of,
)
from hamdist.runs.prepare import prepare
from hamdist.runs.representatives import Representatives, kinds_of
from hamdist.runs.trust import check_network, check_stream
from hamdist.streams import Batch, Stream

Found = TypeVar("Found")


class Findings(NamedTuple):
    """mistakes, notes: a line each, with its place; a config with notes alone runs."""

    mistakes: list[str]
    notes: list[str]


def check(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), trust: bool = False
) -> list[str]:
    """Every mistake in a config, with its place; the stream is opened, but standard input is not read.

    trust: whether code that the config names may be imported and called, beyond torch's layers and what this program
    has imported itself; without it such a name is a mistake, and what it stands for is not looked at.
    """
    return findings(config, overrides, trust).mistakes


def findings(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), trust: bool = False
) -> Findings:
    """As `check`, and what is no mistake, but worth knowing before a run."""
    try:
        found = Check(load_sections(config, overrides), trust)
        return Findings(found.lines(), found.notes())
    except ConfigError as error:
        return Findings([str(problem) for problem in error.problems], [])


class Check:
    """One look at a config; `mistakes` are what was found beyond the schema."""

    def __init__(self, sections: Sections, trust: bool = False) -> None:
        self.sections, self.trust = sections, trust
        self.mistakes: list[UserError] = []
        self._stream: Stream | None = None
        self._cautions: list[str] = []

    def lines(self) -> list[str]:
        """One a mistake."""
        self._look()
        found = [str(problem) for problem in self.sections.problems]
        return found + [line for error in self.mistakes for line in self.sections.explain(error)]

    def notes(self) -> list[str]:
        """Of a config without mistakes: a stream that will end before it gives what is asked of it, and what will
        probably not learn.
        """
        return [] if self.mistakes else [*self._short_stream(), *self._cautions]

    def _short_stream(self) -> list[str]:
        config, stream = self.sections.stream, self._stream
        if config is None or stream is None or config.samples is None:
            return []
        try:
            available = stream.available
        except StreamError:  # which the run will tell, once it is there
            return []
        if available is None or available >= config.samples:
            return []
        told = f"{config.samples:,} are asked for, and the source has {available:,}: the run will finish with these"
        return [f"stream.samples: {told}"]

    def _look(self) -> None:
        if (placement := self.sections.placement) is not None:
            self._try(lambda: local_device(placement.device))
        batch = self._try(self._first_batch)
        if batch is not None and self._could_run(batch):
            return
        network = self._try(self._network)
        if network is None:
            return
        if placement is not None:
            self._try(lambda: check_placement(placement, network.names))
        layers = self._try(
            lambda: (
                make_layers(network.layers, self.sections.seed or 0, self._dtype, torch.device("cpu")).layers
            )
        )
        graph = self._try(lambda: network.graph, "network.edges")
        if graph is None:
            return
        self._try(lambda: self._locality(network, graph), "network.edges")
        if batch is not None and layers is not None:
            self._try(lambda: self._together(network, graph, layers, batch))

    def _could_run(self, batch: Batch) -> bool:
        """Whether nothing is wrong at all, which is soon known where many layers are alike."""
        whole = self.sections.whole
        if whole is None or self.mistakes or whole.network.layers is None:
            return False
        try:
            if not self.trust:
                check_network(whole.network)
            setup, device = prepare(whole), batch.inputs.device
            kinds = kinds_of(whole.network.layers)
            builder = Representatives(setup.outline, setup.network.layers, kinds, device)
            examine_all(setup.outline, builder, batch[:2])
        except UserError:
            return False
        unscaled = sum(layer.repeat for layer in whole.network.layers if layer.residual is True)
        self._cautions = list(cautions(setup.outline, unscaled))
        return True

    def _try(self, look: Callable[[], Found], key: str = "network") -> Found | None:
        """What it gives, or None and one more mistake, of the network at `key` where it knows no key itself."""
        try:
            with network_keys(key):
                return look()
        except UserError as error:
            self.mistakes.append(error)
            return None

    @property
    def _dtype(self) -> torch.dtype:
        network = self.sections.network
        return torch.float32 if network is None else dtype_of(network)

    def _first_batch(self) -> Batch | None:
        stream = self.sections.stream
        if stream is None:
            return None
        if not self.trust:
            check_stream(stream)
        locality = self.sections.locality
        horizon = None if locality is None else locality.horizon
        self._stream = opened = stream_of(stream, self.sections.seed or 0, self._dtype, horizon)
        if stream.source == "stdin":
            return None
        with stream_keys():
            return next(iter(opened))

    def _network(self) -> Network | None:
        network = self.sections.network
        if network is None:
            return None
        if not self.trust:
            check_network(network)
        return network_of(network, self.sections.seed or 0)

    def _locality(self, network: Network, graph: Graph) -> None:
        """Whether a locality fits the network; what depends on the hold is seen only where the stream is sound."""
        locality, stream = self.sections.locality, self.sections.stream
        if locality is None or (stream is None and (locality.gate == "settled" or locality.mode == "cyclic")):
            return
        hold = 1 if stream is None else stream.hold
        apply_locality(graph, locality_of(locality, network.names, hold))

    def _together(self, network: Network, graph: Graph, layers: Mapping[str, Layer], batch: Batch) -> None:
        """The network on the first batch: as it would run, or where something is wrong already, its shapes."""
        whole = self.sections.whole
        if whole is None or self.mistakes:
            check_shapes(network, graph, layers, batch)
        else:
            program = prepare(whole).built(batch[:2])
            self._cautions = list(cautions(program.outline, unscaled_blocks(program)))


@torch.no_grad()
def check_shapes(network: Network, graph: Graph, layers: Mapping[str, Layer], batch: Batch) -> None:
    """Whether layers and losses fit each other and the batch, whatever the locality. Raises NetworkError."""
    keys = {spec.name: spec.key for spec in network.layers}

    def look(name: str, heard: Mapping[str, Heard]) -> Facts:
        outputs = tensors_like(heard, batch.inputs.device)
        return examine(graph, name, layers[name], outputs, keys[name], 0)

    facts = survey(graph, look, batch.inputs)
    for node, spec in network.losses.items():
        check_loss(node, spec, facts[spec.layer].output, batch.targets)
