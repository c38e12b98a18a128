"""All nodes in this process: one loop that runs every locality, since a delay is only tokens in a channel."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, TypeVar

from torch import Tensor

from hamdist.engine.build import Program
from hamdist.engine.channel import Channel
from hamdist.engine.device import keep_freed_memory
from hamdist.engine.divergence import check_finite
from hamdist.engine.extent import extents
from hamdist.engine.free_run import FreeLayer, FreeRun
from hamdist.engine.layer_node import LayerNode
from hamdist.engine.layer_view import LayerView
from hamdist.engine.loading import extra_states_of, forms_of, load_weights, take_extra_states
from hamdist.engine.loss_node import LossNode, Prediction
from hamdist.engine.message import Message
from hamdist.engine.partition import Partition, initial_value
from hamdist.engine.parts import signals_of
from hamdist.engine.profiler import SILENT, Timeline
from hamdist.engine.source import INPUTS, TARGETS, Given, Source
from hamdist.engine.state import RuntimeState, copied
from hamdist.errors import RunError
from hamdist.network.graph import SOURCE, Edge

Item = TypeVar("Item")


def chunked(items: Iterable[Item], count: int) -> Iterator[Iterator[Item]]:
    """The items, so many at a time, each of which is to be used up before the next."""
    coming = iter(items)
    while (first := next(coming, None)) is not None:
        yield chain([first], islice(coming, count - 1))


class InlineRuntime:
    """Runs a program in this process, tick by tick."""

    def __init__(self, program: Program, timeline: Timeline = SILENT) -> None:
        self.program = program
        self._channels = [Channel(edge, self._initial(edge)) for edge in program.graph.edges]
        between = [channel for channel in self._channels if channel.edge.source != SOURCE]
        execution = program.outline.execution
        if execution.stacked:
            keep_freed_memory()
        self._partition = Partition(
            program.outline,
            program.nodes,
            self._channels,
            between,
            program.targets,
            execution.chunk,
            timeline,
        )
        self._source = Source(
            len(program.targets),
            program.locality.hold,
            execution.chunk,
            program.entrance,
            program.outline.recent,
        )
        self._read = [channel for channel in self._channels if channel.edge.source == SOURCE]

    @property
    def tick(self) -> int:
        """The number of ticks done."""
        return self._partition.tick

    @property
    def whole(self) -> bool:
        """Whether the last tick ended; one that broke off is followed by none, until a cut is restored."""
        return self._partition.broken_off is None

    @property
    def reached(self) -> dict[str, tuple[int, int]]:
        """As the partition's."""
        return self._partition.reached

    @property
    def stands(self) -> bool:
        """Whether it can be asked, and what has broken off be restored: always."""
        return True

    @property
    def samples(self) -> int:
        """The number of samples that entered, hold-out not counted."""
        return self._source.samples

    @property
    def nodes(self) -> dict[str, LayerNode]:
        """The layers at work, by name."""
        return self._partition.nodes

    @property
    def losses(self) -> dict[str, LossNode]:
        """The losses at work, by node."""
        return self._partition.losses

    @property
    def execution(self) -> dict[str, Any]:
        """As the partition's."""
        return self._partition.execution

    def executions(self) -> dict[str, dict[str, Any]]:
        """The same by actor, of which there is one; nothing where there is nothing to say."""
        return {"inline": self.execution} if self.execution else {}

    @property
    def batch(self) -> int:
        """The rows of a full batch, those of the first one."""
        return self._source.batch

    @property
    def loss(self) -> LossNode:
        """The first loss, whose scores are the run's."""
        return next(iter(self.losses.values()))

    @property
    def remembers(self) -> bool:
        """Whether a layer has a memory."""
        return any(spec.layer.remembers for spec in self.program.nodes.values())

    def cut(self) -> RuntimeState:
        """A copy of all that moves, as it is now; nothing here moves. Raises RunError where not all that entered has
        been met, or the last tick broke off.
        """
        partition = self._partition.cut()
        if self._source.tick != self.tick:
            raise RunError(
                f"{self._source.tick} ticks entered and {self.tick} are done: take all predictions first"
            )
        said = signals_of(self._read)
        return RuntimeState(partition, self._source.state._replace(signals=copied(said)))

    def restore(self, state: RuntimeState) -> None:
        """Goes on from a cut of a runtime of the same program, bit for bit as that one did. Raises RunError."""
        self._partition.restore(state.partition, state.source)
        self._source.state = state.source

    def present(
        self, inputs: Tensor, targets: Tensor, learn: bool = True, restarts: Tensor | None = None
    ) -> Iterator[Prediction]:
        """Presents one batch for `hold` ticks; yields what left the network, at its first loss, in them.

        inputs [R, …], targets [R, …], R at most `batch`: a shorter batch is padded with its last row. restarts: flags
        [R] of the rows in which an episode begins.
        """
        for message in self._source.present([(inputs, targets, restarts)], learn):
            self._give(message)
            for _ in range(message.ticks):
                yield from self._partition.advance()

    def present_all(self, batches: Iterable[Given]) -> list[Prediction]:
        """Presents several batches, also those before one that cannot be had: a list, which is at hand, in one go, of
        anything else as many at a time as a chunk has ticks, so that no more are read than are learnt from.

        What they hold must stay until this returns.
        """
        predictions: list[Prediction] = []
        chunk = self.program.outline.execution.chunk
        for together in [iter(batches)] if isinstance(batches, list) else chunked(batches, chunk):
            for message in self._source.present(together):
                self._give(message)
                predictions += self._partition.advance(message.ticks)
        return predictions

    def drain(self) -> Iterator[Prediction]:
        """Goes on without new samples until the costate of every sample has reached every layer."""
        yield from self._wait(self.program.drain)
        check_finite(self.tick, extents(self.nodes))

    def evaluate(self, batches: Iterable[Given]) -> Iterator[Prediction]:
        """Sends hold-out batches through, in evaluation mode, as an episode; nothing learns from them."""
        self._source.begin_episode()
        for inputs, targets, *flags in batches:
            yield from self.present(inputs, targets, False, *flags[:1])
        yield from self._wait(self.program.outline.flush)

    def predict(self, inputs: Tensor) -> Tensor:
        """What the layer of the first loss says of inputs [R, …] with today's weights; nothing moves.

        One plain pass in evaluation mode: relaxing layers stand at their equilibrium, memories at their start,
        feedback brings zeros.
        """
        with self.free_run() as free:
            return free.step(inputs)

    @contextmanager
    def free_run(self) -> Iterator[FreeRun]:
        """Within it the network with today's weights, on its own; nothing here moves."""
        yield FreeRun.of(self.program, {name: FreeLayer.of(node) for name, node in self.nodes.items()})

    def views(self) -> list[LayerView]:
        """Every layer as it is now."""
        return [LayerView.of(name, node.carry) for name, node in self.nodes.items()]

    def prequential(self) -> dict[str, dict[str, float]]:
        """The means of every loss since the start, by node."""
        return {node: loss.prequential.total() for node, loss in self.losses.items()}

    def holdout(self) -> dict[str, dict[str, float]]:
        """Their means over the hold-out samples that came since the last time."""
        return {node: loss.holdout.window() for node, loss in self.losses.items()}

    def close(self) -> None:
        """Nothing is left to be stopped."""

    def tensors(self) -> dict[str, dict[str, Any]]:
        """Every layer's state_dict."""
        return {name: node.tensors() for name, node in self.nodes.items()}

    def load_weights(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """As the function; after it nothing but weights and buffers has changed."""
        load_weights(self.nodes, state)

    def forms(self) -> dict[str, dict[str, str]]:
        """As the function."""
        return forms_of(self.nodes)

    def extra_states(self) -> dict[str, dict[str, Any]]:
        """As the function."""
        return extra_states_of(self.nodes)

    def take_extra_states(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """As the function."""
        take_extra_states(self.nodes, states)

    def seen_once(self) -> bool:
        """Whether every sample that entered drove every layer exactly once."""
        return all(node.ledger.seen_once(self.samples) for node in self.nodes.values())

    def _wait(self, ticks: int) -> Iterator[Prediction]:
        """So many ticks of silence."""
        for message in self._source.silence(ticks):
            self._give(message)
            yield from self._partition.advance()

    def _give(self, message: Message) -> None:
        """A message of the source goes to all that read it."""
        for channel in self._read:
            channel.signals.add(message.only(TARGETS if channel.edge.target in self.losses else INPUTS))

    def _initial(self, edge: Edge) -> Tensor | None:
        plan = self.program.nodes.get(edge.target)
        return None if plan is None else initial_value(self.program.outline, edge, plan)
