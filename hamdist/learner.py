"""Learning one batch at a time, in Python: in this process, or on the workers of a run over actors."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from hamdist.engine.free_run import Feed
from hamdist.engine.layer_view import LayerView
from hamdist.engine.loss_node import Prediction
from hamdist.errors import ConfigError, Problem
from hamdist.network.edges import EdgeLike
from hamdist.network.given_layers import Layers
from hamdist.network.locality import Mode
from hamdist.network.losses import Losses, called
from hamdist.network.network import Network
from hamdist.network.plain import plain_model
from hamdist.network.plain_graph import PlainLayers
from hamdist.network.sequence import PlainSequence
from hamdist.runs.chosen import EXECUTION, Chosen
from hamdist.runs.given import GivenBatch
from hamdist.runs.identity import again
from hamdist.runs.learner_core import LearnerCore
from hamdist.runs.learner_state import LearnerState
from hamdist.runs.settings import Actors, Settings
from hamdist.runs.turn import ThreadTurn, between_steps, in_turn


class Learner:
    """A network that learns from whatever it is given, batch after batch.

        learner = Learner([nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)], "cross_entropy", beta=0.05)
        for x, target in stream:
            prediction = learner.step(x, target)

    layers: an nn.Sequential, modules, functions that build them, a plain model as `load_model` returns it, or a
    Network, which has its losses and edges.
    Modules are copied; parameters that require no gradient stay as they are, and so do the statistics of parts in
    evaluation mode. A model in evaluation mode as a whole is put in training mode, with an EvaluationModeWarning.
    loss: a name such as "cross_entropy" (which it is by default), a function (output, target) → mean over the batch,
    or several, see `Network.of`.  edges: "0->1" and the like; the chain if None.
    locality: "local", "nonlocal", "groups" or "cyclic".  hold: ticks each batch is presented for.  stack, compile,
    chunk: as in the config's section `placement`; chunks of ticks run in `steps`.  settings: see `Settings`.
    runtime, actors: as there, too; with runtime="ray" layers live on Ray's workers, which start with the first batch
    and do nothing unless they are asked; `close`, or the end of a `with`, stops them.
    Raises ConfigError and NetworkError; what depends on shapes is checked with the first batch.

        with Learner(layers, runtime="ray", actors=2) as learner:
            learner.steps(stream)

    Threads that share it take turns; RunError where one has waited too long for another.
    """

    def __init__(
        self,
        layers: Layers | Network | PlainLayers,
        loss: Losses | None = None,
        *,
        edges: Iterable[EdgeLike] | None = None,
        locality: Mode = "local",
        hold: int = 1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        stack: bool = False,
        compile: bool = False,
        chunk: int = 1,
        runtime: Literal["inline", "ray"] = "inline",
        actors: Actors | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        execution = dict(zip(EXECUTION, (runtime, actors, stack, compile, chunk), strict=True))
        chosen = Chosen(locality, hold, seed, dtype, execution, settings)
        network = _network(layers, loss, edges)
        _check_tau(layers, tau := chosen.learning.dynamics.tau)
        self._core = LearnerCore(replace(network, tau=tau), chosen)
        self._turn = ThreadTurn()

    @in_turn
    def step(self, x: Any, target: Any, restart: Any = False) -> Prediction | None:
        """Presents one batch, x [R, …] and target [R, …], and learns; R may be less than at first, not more.

        target: of several losses the same for all, or by loss, {"classes": [R], "aux": [R, …]}; a loss goes by its
        name, or else by the layer that bears it.

        restart: whether an episode begins with it, for all rows or one flag a row [R]: layers with a memory start anew
        there. The first batch always begins one.

        A row without a target (NaN in all its numbers, the class −100, None in a list; target None: no row has one) is
        predicted, drives nothing, and is in no metric; `metrics` counts it as unlabelled. Where no row has one, no
        weight moves.

        Returns the prediction that left the network meanwhile, None while it fills: with delays it is of an
        earlier batch, `prediction.first` says which. Raises StreamError for values that are not finite or not of
        the first batch's shape and dtype, RunError (DivergenceError) where learning fails.
        """
        rows = self._core.reader.batch((x, target, restart), f"the batch at sample {self.samples}")
        runtime = self._core.started_with(rows)
        predictions = list(runtime.present(rows.inputs, rows.targets, restarts=rows.restarts))
        return predictions[-1] if predictions else None

    @in_turn
    def steps(self, batches: Iterable[tuple[Any, ...]]) -> list[Prediction]:
        """Presents several batches (x, target) or (x, target, restart), as `step` does one; returns what left
        meanwhile.

        Where `chunk` is more than 1, so many ticks run in one go.
        """
        coming = self._checked(batches)
        if (first := next(coming, None)) is None:
            return []
        return self._core.started_with(first).present_all(chain([first], coming))

    def _checked(self, batches: Iterable[Any]) -> Iterator[GivenBatch]:
        sample = self.samples
        for batch in batches:
            inputs, targets, flags = self._core.reader.batch(batch, f"the batch at sample {sample}")
            sample += len(inputs)
            yield GivenBatch(
                inputs.clone(), targets.clone(), flags
            )  # whoever made them may use the memory again

    @in_turn
    def drain(self) -> list[Prediction]:
        """Goes on until every batch has driven every layer; returns the predictions that were still under way."""
        return [] if self._core.runtime is None else list(self._core.started.drain())

    @in_turn
    def predict(self, x: Any) -> Tensor:
        """The output for x [R, …] with today's weights, in one plain pass; nothing moves. Memories are at their start:
        `predict_steps` goes through a sequence."""
        started = self._core.started
        ((inputs, _),) = self._core.reader.inputs([x], "input")
        return started.predict(inputs)

    @in_turn
    def predict_steps(self, inputs: Iterable[Any]) -> list[Tensor]:
        """The outputs for one input after another, each x [R, …] or (x, restart), with today's weights; nothing moves.

        Memories begin with the first, go on from each input to the next, and begin anew where `restart` says so, for
        all rows or one flag a row [R]. A tensor of sequences [B, T, …] is gone through as x.unbind(1).
        """
        with self._core.started.free_run() as free:
            return [free.step(x, flags) for x, flags in self._core.reader.inputs(inputs, "input")]

    @in_turn
    def generate(self, first: Iterable[Any], steps: int, feed: Feed = "output") -> list[Tensor]:
        """Runs freely with today's weights: through inputs `first`, each x [R, …] or (x, restart), then so many steps
        more, whose outputs it returns; with 0 steps, the output at the last of the first. Nothing here moves.

        feed: the input of a step is the "output" of the one before, "zero", or the "same" as the last of the first.
        """
        with self._core.started.free_run() as free:
            return list(free.go(self._core.reader.inputs(first, "input"), steps, feed))

    @in_turn
    def evaluate(self, batches: Iterable[tuple[Any, ...]]) -> dict[str, float]:
        """Metrics over hold-out batches (x, target) or (x, target, restart), sent through without learning from them.

        Memories begin with the first batch, go on from each to the next, and begin anew where `restart` says so.
        Batches may be of any size, but for memories, which have as many rows as the first batch that was learnt from.
        Batches still under way go on learning meanwhile: drain first for the weights of one moment.
        Several losses: as `metrics`. Raises StreamError, after which nothing of these batches is left to count.
        """
        started, failed = self._core.started, []

        def parts() -> Iterator[GivenBatch]:
            try:
                yield from self._core.reader.held_out(batches, started.batch, started.remembers)
            except Exception as error:
                failed.append(error)

        for _ in started.evaluate(parts()):
            pass
        found = started.holdout()
        if failed:
            raise failed[0]
        return _by_loss(self.network, found)

    def plain_model(self) -> nn.Module:
        """The plain PyTorch model, as `hamdist.plain_model` makes it, with today's weights, in evaluation mode."""
        model = plain_model(self.network, self._core.chosen.seed, self._core.chosen.dtype)
        model.load_state_dict(
            {k: v.cpu() if isinstance(v, Tensor) else v for k, v in self.state_dict().items()}
        )
        return model.eval()

    @in_turn
    def state_dict(self) -> dict[str, Tensor]:
        """The weights and buffers, keys "<layer>.<tensor>": an nn.Sequential's own state_dict for its layers.

        With `average` these are the running means, with which it predicts; `layers` shows the weights that learn.
        """
        return self._core.state_dict()

    @between_steps
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes up weights and buffers as `state_dict` has them, all of them, where running means begin anew; costates,
        moments and all else stay.

        Before the first batch, too: the layers begin with them then. Raises UserError naming all that is missing, too
        much, of another shape, or of a dtype that would lose digits; nothing has changed then.
        """
        self._core.load_state_dict(state_dict)

    @between_steps
    def training_state(self) -> dict[str, Any]:
        """All that decides what follows: weights, costates, moments, memories, what is under way along the edges,
        counters, scores, and the first batch, which tells the shapes. A plain dict of tensors by name, on the CPU, text
        and a number, as torch.save and torch.load(weights_only=True) take it. Raises RunError before the first batch.
        """
        return self._core.state().plain()

    @between_steps
    def load_training_state(self, state: Mapping[str, Any], device: str | torch.device | None = None) -> None:
        """Goes on from a `training_state`, bit for bit as the learner that it is of would have, on CPUs.

        That learner must have had these layers, edges, losses, seed, dtype, hold and settings of locality; how it
        learns (`beta`, …) and how it is executed (`runtime`, `stack`, …) may be otherwise.  device: where to go on, by
        default where this learner is, or else where that one was. Raises UserError naming all that does not fit, and
        nothing has changed then. On actors, new ones take it up.
        """
        self._core.take_up(LearnerState.of_plain(state), device)

    @between_steps
    def save(self, path: str | Path) -> None:
        """Writes its training state and its settings as one file, whole or not at all; nothing is pickled. Raises
        UserError where it cannot be written, RunError before the first batch."""
        self._core.state().write(path)

    @classmethod
    def load(
        cls,
        path: str | Path,
        layers: Layers | Network | PlainLayers,
        loss: Losses | None = None,
        *,
        edges: Iterable[EdgeLike] | None = None,
        device: str | torch.device | None = None,
        **settings: Any,
    ) -> "Learner":
        """The learner that was saved, which goes on as it would have, bit for bit on CPUs.

        layers: as that one was made of; their weights are those of the file.  loss, edges, settings: where they are not
        given, they are those of the file; functions must be given again. What may differ, and `device`: as in
        `load_training_state`. Raises UserError naming the file that is damaged or of another kind, or what of it does
        not fit.
        """
        state = LearnerState.read(path)
        arguments = again(state.about["identity"], layers, loss, edges, settings)
        learner = cls(layers, **arguments)
        learner._core.take_up(state, device)
        return learner

    @property
    @in_turn
    def layers(self) -> tuple[LayerView, ...]:
        """Every layer as it is now, in the order listed."""
        return tuple(self._core.started.views())

    @property
    def metrics(self) -> dict[str, float]:
        """Prequential means so far: every sample was predicted before it was learnt from.

        Those of the first loss by their names; of another loss, "aux", as "aux.loss" and the like. Where samples came
        without a target, "unlabelled" is their number; the means are over the others.
        """
        return {} if self._core.runtime is None else _by_loss(self.network, self._core.started.prequential())

    @property
    def execution(self) -> dict[str, dict[str, Any]]:
        """How ticks run, by actor, as a run's summary says it; nothing where all run node by node, as without `stack`.

        Under "not_traced" and "not_stacked" stand the layers that are slower than they might be, each with the reason
        and the place in its code; under "node_by_node" why no ticks run as one.
        """
        return self._core.started.executions()

    @property
    def network(self) -> Network:
        """Its layers, losses and edges."""
        return self._core.network

    @property
    def samples(self) -> int:
        """How many samples have entered."""
        return 0 if self._core.runtime is None else self._core.runtime.samples

    @property
    def samples_seen_once(self) -> bool:
        """Whether every sample so far has driven every layer exactly once (true after `drain`)."""
        return self._core.runtime is not None and self._core.started.seen_once()

    def close(self) -> None:
        """Stops the workers, if there are any; the learner cannot be used any more. May be called twice."""
        self._core.close()

    @between_steps
    def __deepcopy__(self, memo: dict[int, Any]) -> "Learner":
        """One that goes on from here on its own. Raises RunError where layers live on actors."""
        twin = object.__new__(type(self))
        vars(twin).update(vars(self), _turn=ThreadTurn(), _core=self._core.twin())
        return twin

    @between_steps
    def __getstate__(self) -> dict[str, Any]:
        """What it was made of, and its training state. Raises TypeError, naming what cannot be pickled."""
        return {**vars(self), "_turn": None, "_core": self._core.parts()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _turn=ThreadTurn(), _core=LearnerCore.of_parts(state["_core"]))

    def __enter__(self) -> "Learner":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _network(
    layers: Layers | Network | PlainLayers, loss: Losses | None, edges: Iterable[EdgeLike] | None
) -> Network:
    """Raises ConfigError for what a Network, or a plain model, has already."""
    if isinstance(layers, Network):
        _refuse_twice("Network", loss=loss, edges=edges)
        return layers
    loss = "cross_entropy" if loss is None else loss
    if isinstance(layers, PlainLayers):
        _refuse_twice("model", edges=edges)
        return Network.of(layers.specs(), loss, layers.edges)
    return Network.of(layers, loss, edges)


def _check_tau(layers: Any, tau: float) -> None:
    """Raises ConfigError where a plain model's memories would go on in steps of another length."""
    if isinstance(layers, PlainSequence) and layers.tau != tau:
        message = (
            f"the model's memories were learnt in steps of {layers.tau:g}, and these would be of {tau:g}"
        )
        raise ConfigError(Problem("tau", f"{message}: set tau={layers.tau:g}, or the model's tau"))


def _refuse_twice(owner: str, **arguments: Any) -> None:
    if given := [name for name, value in arguments.items() if value is not None]:
        message = f"the {owner} has its own: leave it out, or give the layers instead of the {owner}"
        raise ConfigError(*(Problem(name, message) for name in given))


def _by_loss(network: Network, means: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Metrics of every loss: those of the first by their names, of the others after what users call the loss."""
    first, *others = network.losses
    return dict(means[first]) | {
        f"{called(node, network.losses[node])}.{name}": value
        for node in others
        for name, value in means[node].items()
    }
