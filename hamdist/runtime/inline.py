"""All cells in this process: one loop that runs every locality, since a delay is only tokens in a channel.

A tick evaluates every cell in the graph-wide order, then lets every cell react in the reverse of it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hamdist.errors import DivergenceError, RunError, StreamError
from hamdist.network.graph import SOURCE, Edge
from hamdist.network.plain import forward_pass
from hamdist.network.survey import class_beyond
from hamdist.physics.layers import Context
from hamdist.runtime.cell import Cell
from hamdist.runtime.channel import Channel
from hamdist.runtime.divergence import check_finite, diagnosis
from hamdist.runtime.loss_cell import LossCell, Prediction
from hamdist.runtime.program import Program
from hamdist.runtime.token import INVALID, Signal, Token


class InlineRuntime:
    """Runs a program in this process, tick by tick.

    tick: the number of ticks done.  samples: the number of samples that entered, hold-out not counted.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.tick = 0
        self.samples = 0
        self.cells = {name: Cell(plan) for name, plan in program.cells.items()}
        self.losses = {node: self._loss_cell(node) for node in program.network.losses}
        self._channels = [Channel(edge, self._initial(edge)) for edge in program.graph.edges]
        self._into = {node: [c for c in self._channels if c.edge.target == node] for node in program.order}
        self._out_of = {node: [c for c in self._channels if c.edge.source == node] for node in program.order}

    def _loss_cell(self, node: str) -> LossCell:
        program = self.program
        spec, place = program.network.losses[node], program.locality
        example = (program.cells[spec.layer].facts.output, program.targets)
        return LossCell(node, spec, program.learning.gamma, place.gate, place.hold, example)

    @property
    def batch(self) -> int:
        """The rows of a full batch, those of the first one."""
        return len(self.program.targets)

    @property
    def loss(self) -> LossCell:
        """The first loss, whose scores are the run's."""
        return next(iter(self.losses.values()))

    def present(self, inputs: Tensor, targets: Tensor, learn: bool = True) -> Iterator[Prediction]:
        """Presents one batch for `hold` ticks; yields what left the network, at its first loss, in them.

        inputs [R, …], targets [R, …], R at most `batch`: a shorter batch is padded with its last row.
        """
        rows = len(inputs)
        if len(targets) != rows:
            raise StreamError(f"{rows} rows came with {len(targets)} targets at sample {self.samples}")
        inputs, targets = self._filled(inputs), self._filled(targets)
        for repeat in range(self.program.locality.hold):
            token = Token(self.tick, self.samples, rows, repeat, learn=learn)
            yield from self._tick(Signal(token, inputs), Signal(token, targets))
        if learn:
            self.samples += rows

    def drain(self) -> Iterator[Prediction]:
        """Goes on without new samples until the costate of every sample has reached every layer."""
        for _ in range(self.program.drain):
            yield from self._tick(Signal(INVALID), Signal(INVALID))
        check_finite(self.tick, self.cells)

    def evaluate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Prediction]:
        """Sends hold-out batches through, in evaluation mode; nothing learns from them."""
        for inputs, targets in batches:
            yield from self.present(inputs, targets, learn=False)
        for _ in range(self.program.flush):
            yield from self._tick(Signal(INVALID), Signal(INVALID))

    def predict(self, inputs: Tensor) -> Tensor:
        """What the layer of the first loss says of inputs [R, …] with today's weights; nothing moves.

        One plain pass in evaluation mode: relaxing layers stand at their equilibrium, feedback brings zeros.
        """

        def call(name: str, signals: tuple[Tensor, ...]) -> Tensor:
            cell = self.cells[name]
            pure, carry = cell.plan.layer.pure, cell.carry
            context = Context(training=False, seed=0 if cell.plan.facts.random else None)
            return pure(carry.parameters, carry.buffers, signals, context)[0]

        with torch.no_grad():
            outputs = forward_pass(self.program.graph, call, inputs, self._silence(len(inputs)))
        return outputs[self.loss.spec.layer]

    def _silence(self, rows: int) -> dict[str, Tensor]:
        """Zeros for every feedback edge."""
        return {
            edge.name: signal.new_zeros(rows, *signal.shape[1:])
            for cell in self.program.cells.values()
            for edge, signal in zip(cell.into, cell.facts.inputs, strict=True)
            if edge.feedback
        }

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Every layer's state_dict."""
        return {name: cell.tensors() for name, cell in self.cells.items()}

    def seen_once(self) -> bool:
        """Whether every sample that entered drove every layer exactly once."""
        return all(cell.ledger.seen_once(self.samples) for cell in self.cells.values())

    @torch.no_grad()
    def _tick(self, inputs: Signal, targets: Signal) -> list[Prediction]:
        for channel in self._out_of[SOURCE]:
            channel.signals.append(targets if channel.edge.target in self.losses else inputs)
        for node in self.program.order:
            if node in self.cells:
                self._evaluate(node)
            elif node in self.losses:
                self._judge(node)
        self._check()
        for node in reversed(self.program.order):
            if node in self.cells:
                self._react(node)
            elif node in self.losses:
                self._into[node][0].costates.append(self.losses[node].react())
        self.tick += 1
        return [] if self.loss.prediction is None else [self.loss.prediction]

    def _evaluate(self, name: str) -> None:
        signals = [channel.signals.popleft() for channel in self._into[name]]
        with self._named(f"layer {name!r}"):
            shown = self.cells[name].evaluate(self.tick, signals)
        for channel in self._out_of[name]:
            channel.signals.append(shown)

    def _judge(self, node: str) -> None:
        output, target = (channel.signals.popleft() for channel in self._into[node])
        spec = self.losses[node].spec
        try:
            with self._named(f"the loss {spec.name}"):
                self.losses[node].evaluate(self.tick, output, target)
        except RunError as error:
            if output.value is None or target.value is None:
                raise
            if (beyond := class_beyond(output.value, target.value)) is None:
                raise
            first, last = target.token.first, target.token.first + target.token.rows - 1
            raise StreamError(
                f"class {beyond} came in samples {first} to {last}, but layer {spec.layer!r} has "
                f"{output.value.shape[1]} outputs: it needs {beyond + 1}"
            ) from error

    def _react(self, name: str) -> None:
        costates = [channel.costates.popleft() for channel in self._out_of[name]]
        with self._named(f"layer {name!r}"):
            returned = self.cells[name].react(self.tick, costates)
        for channel, costate in zip(self._into[name], returned, strict=True):
            if channel.edge.source != SOURCE:
                channel.costates.append(costate)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """What a module raises becomes a RunError that says where and when."""
        try:
            yield
        except Exception as error:
            raise RunError(f"{what} failed at tick {self.tick}: {error}") from error

    def _check(self) -> None:
        """Stops at the first tick whose loss is not finite."""
        for loss in self.losses.values():
            if loss.loss is not None and not torch.isfinite(loss.loss):
                raise DivergenceError(diagnosis(self.tick, loss.loss, self.cells))

    def _initial(self, edge: Edge) -> Tensor | None:
        """Valid zeros in a layer's forward edge under `warmup: zeros`, else nothing."""
        if self.program.locality.warmup != "zeros" or edge.feedback or edge.target in self.losses:
            return None
        index = self.program.graph.into(edge.target).index(edge)
        return torch.zeros_like(self.program.cells[edge.target].facts.inputs[index])

    def _filled(self, rows: Tensor) -> Tensor:
        """Up to the batch size, by repeating the last row."""
        missing = self.batch - len(rows)
        if missing == 0:
            return rows.clone()  # whoever made it may use the memory again
        if missing < 0 or len(rows) == 0:
            raise StreamError(
                f"a batch of {len(rows)} rows came at sample {self.samples}, but the first had {self.batch}"
            )
        return torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])
