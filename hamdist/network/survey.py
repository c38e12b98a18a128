"""What a network does with its first batch, found before the first tick: shapes, and how each layer behaves.

Every layer is evaluated once, upstream first. What cannot work is refused here, by name.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hamdist.errors import NetworkError, Problem, first_line
from hamdist.network.behaviour import behaviour_of
from hamdist.network.graph import SOURCE, Edge, Graph, sorted_nodes
from hamdist.network.wording import describe
from hamdist.physics.layers import Layer
from hamdist.physics.numerics import differentiable
from hamdist.physics.pure_module import Context, Join
from hamdist.physics.randomness import BEYOND_TORCH, derive_seed, seeded

Shape = tuple[int, ...]


class Like(NamedTuple):
    """What a signal looks like; kept in its place, since a signal takes memory."""

    shape: Shape
    dtype: torch.dtype
    device: torch.device

    def zeros(self) -> Tensor:
        return self.zeros_on(self.device)

    def zeros_on(self, device: torch.device) -> Tensor:
        return torch.zeros(self.shape, dtype=self.dtype, device=device)


Heard = Tensor | Like


def like(tensor: Tensor) -> Like:
    return Like(tuple(tensor.shape), tensor.dtype, tensor.device)


@dataclass(frozen=True)
class Facts:
    """What the survey found of one layer.

    hears: what it gets, one per in-edge.  says: its output.  random: whether it draws random numbers.
    batch_statistics: whether its output depends on all rows at once.
    wanted: per in-edge, whether a costate is returned (not to the source, nor along integers).
    shows_weights: whether its output lies in the memory of its weights, which will move.
    invertible: whether it has an inverse.  beyond: the generators beyond torch's that it draws from.
    moves: the buffers that it writes in training.  learns: its parameters that learn.
    """

    hears: tuple[Like, ...]
    says: Like
    random: bool
    batch_statistics: bool
    wanted: tuple[bool, ...]
    shows_weights: bool
    invertible: bool = False
    beyond: tuple[str, ...] = ()
    moves: tuple[str, ...] = ()
    learns: tuple[str, ...] = ()

    def context(self, training: bool = True) -> Context:
        """The circumstances of an evaluation that is none of a sample's, the same each time."""
        return Context(training, 0 if self.random else None, beyond=self.beyond)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """Zeros like its inputs, made anew."""
        return tuple(heard.zeros() for heard in self.hears)

    @property
    def output(self) -> Tensor:
        """Zeros like its output, made anew."""
        return self.says.zeros()


def survey(
    graph: Graph, examine: Callable[[str, Mapping[str, Heard]], Facts], inputs: Tensor
) -> dict[str, Facts]:
    """The facts of every layer, for a first batch of inputs [B, …].

    examine: those of one layer, from what it hears of forward: the inputs, and what outputs look like.
    Raises NetworkError: shapes that do not fit, a module that fails, modifies its input or gives no tensor, a feedback
    signal whose shape cannot be known.
    """
    facts: dict[str, Facts] = {}
    for name in survey_order(graph):
        heard = {
            edge.source: inputs if edge.source == SOURCE else facts[edge.source].says
            for edge in graph.into(name)
            if not edge.feedback
        }
        facts[name] = examine(name, heard)
    for name, found in facts.items():
        check_feedback(graph, name, found.hears, facts)
    return facts


def tensors_like(heard: Mapping[str, Heard], device: torch.device) -> dict[str, Tensor]:
    """What is heard, on a device; zeros in the place of what is only known by its looks."""
    return {
        node: signal.to(device) if isinstance(signal, Tensor) else signal.zeros_on(device)
        for node, signal in heard.items()
    }


def survey_order(graph: Graph) -> list[str]:
    """The layers, each after those that it hears of forward."""
    return [name for name in sorted_nodes(graph.nodes, graph.forward, "has no start") if name in graph.layers]


def examine(
    graph: Graph, name: str, layer: Layer, outputs: Mapping[str, Tensor], key: str, seed: int
) -> Facts:
    """The facts of one layer, when the outputs of all that it hears of forward are known (the source's, too).

    Raises NetworkError, as `survey`.
    """
    signals = signals_into(graph, name, outputs, layer.pure.join)
    return _examine(graph.into(name), layer, signals, key, seed)


def signals_into(graph: Graph, name: str, outputs: Mapping[str, Tensor], join: Join) -> tuple[Tensor, ...]:
    """What reaches a layer on each in-edge; zeros of the right shape along feedback.

    Raises NetworkError where that shape cannot be known.
    """
    known = [outputs[edge.source] for edge in graph.into(name) if not edge.feedback]
    return tuple(
        _feedback_zeros(edge, known[0], join) if edge.feedback else outputs[edge.source]
        for edge in graph.into(name)
    )


def _feedback_zeros(edge: Edge, like: Tensor, join: str) -> Tensor:
    if edge.shape is not None:
        return like.new_zeros(len(like), *edge.shape)
    if join != "sum":
        raise NetworkError(
            f"feedback edge {edge.name}: the shape of its signal is not known before the first tick; "
            "give the edge shape: [...] (of one row)"
        )
    return torch.zeros_like(like)


def _examine(
    edges: tuple[Edge, ...], layer: Layer, signals: tuple[Tensor, ...], key: str, seed: int
) -> Facts:
    """Evaluates one layer in training and notes what it does."""
    name, module = edges[0].target, layer.pure.module
    copies = tuple(signal.clone() for signal in signals)
    _materialise(edges, layer, signals, key, seed)
    versions = [copy._version for copy in copies]
    with seeded(0, signals[0].device, BEYOND_TORCH):
        output, _ = _first_output(edges, layer, copies, key)
    if [copy._version for copy in copies] != versions:
        raise NetworkError(
            Problem(
                key,
                f"layer {name!r} modifies its input in place, which its neighbour still needs: "
                "use inplace=False in its first module",
            )
        )
    behaviour = behaviour_of(name, layer, signals, key)
    quiet = Context(not behaviour.draws, 0, beyond=behaviour.beyond)
    normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    mixed = bool(behaviour.moves) or normed or _mixes_rows(layer, behaviour.signals, quiet)
    wanted = tuple(
        e.source != SOURCE and differentiable(a.dtype) for e, a in zip(edges, signals, strict=True)
    )
    return Facts(
        hears=tuple(map(like, signals)),
        says=like(output),
        random=bool(behaviour.draws),
        batch_statistics=mixed,
        wanted=wanted,
        shows_weights=_shows_weights(layer, signals, behaviour.beyond),
        invertible=layer.invertible,
        beyond=behaviour.beyond,
        moves=behaviour.moves,
        learns=tuple(layer.pure.parameters()),
    )


def _first_output(
    edges: tuple[Edge, ...], layer: Layer, signals: tuple[Tensor, ...], key: str
) -> tuple[Tensor, dict[str, Tensor]]:
    name = edges[0].target
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "None of the inputs have requires_grad"
            )  # so far none is wanted
            output, buffers = layer.pure(layer.pure.parameters(), layer.pure.buffers(), signals, Context())
    except Exception as error:
        raise NetworkError(Problem(key, _misfit(edges, layer.pure.module, signals, error))) from error
    if not isinstance(output, Tensor) or output.shape[:1] != signals[0].shape[:1]:
        got = describe(output) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise NetworkError(
            Problem(
                key,
                f"layer {name!r} must give a tensor with the {len(signals[0])} rows of its input, not {got}",
            )
        )
    return output, buffers


def _materialise(
    edges: tuple[Edge, ...], layer: Layer, signals: tuple[Tensor, ...], key: str, seed: int
) -> None:
    """Lazy modules take shapes from the signals, and weights from (seed, layer name)."""
    try:
        with seeded(derive_seed(seed, edges[0].target), signals[0].device, BEYOND_TORCH):
            layer.pure.materialise(signals)
    except Exception as error:
        raise NetworkError(Problem(key, _misfit(edges, layer.pure.module, signals, error))) from error


def _shows_weights(layer: Layer, signals: tuple[Tensor, ...], beyond: tuple[str, ...]) -> bool:
    parameters, quiet = layer.pure.parameters(), Context(False, 0, beyond=beyond)
    output, _ = layer.pure(parameters, layer.pure.buffers(), signals, quiet)
    memory = output.untyped_storage().data_ptr()
    return any(parameter.untyped_storage().data_ptr() == memory for parameter in parameters.values())


def _mixes_rows(layer: Layer, signals: tuple[Tensor, ...], quiet: Context) -> bool:
    """Whether the first rows come out otherwise without the last one."""
    parameters, buffers = layer.pure.parameters(), layer.pure.buffers()
    output, _ = layer.pure(parameters, buffers, signals, quiet)
    if len(output) < 2 or not differentiable(output.dtype):
        return False
    try:
        fewer, _ = layer.pure(parameters, buffers, tuple(a[:-1] for a in signals), quiet)
    except Exception:
        return True
    return fewer.shape != output[:-1].shape or not torch.allclose(
        fewer, output[:-1], rtol=1e-3, atol=1e-3, equal_nan=True
    )


def _misfit(edges: tuple[Edge, ...], module: nn.Module, signals: tuple[Tensor, ...], error: Exception) -> str:
    given = ", ".join(f"{edge.source!r} gives {describe(a)}" for edge, a in zip(edges, signals, strict=True))
    said = first_line(error)
    return f"{given}, but layer {edges[0].target!r} ({expects(module)}) cannot take it: {said}{_hint(signals, said)}"


def _hint(signals: tuple[Tensor, ...], said: str) -> str:
    """What to do where an error speaks of types, such as integers into a Linear."""
    if not any(word in said for word in ("type", "not implemented for")):
        return ""
    if not all(differentiable(a.dtype) for a in signals):
        return "; give it real numbers (x.float()), or let an Embedding take the integers"
    if any(a.is_complex() for a in signals):
        return "; give it complex weights, or real numbers (x.abs(), torch.view_as_real)"
    return "; indices are integers (x.long())" if "indices" in said else ""


EXPECTATIONS = (
    "in_features",
    "in_channels",
    "num_features",
    "normalized_shape",
    "embed_dim",
    "num_embeddings",
)


def expects(module: nn.Module) -> str:
    """What a module says of its input, as its first submodule that says anything: "Linear, in_features=32"."""
    for part in module.modules():
        for attribute in EXPECTATIONS:
            if isinstance(getattr(part, attribute, None), int | tuple):
                return f"{type(part).__name__}, {attribute}={getattr(part, attribute)}"
    return type(module).__name__


def check_feedback(graph: Graph, name: str, hears: Sequence[Like], facts: Mapping[str, Facts]) -> None:
    """Feedback into a layer must have the shape it was examined with: what it hears, in edge order."""
    for edge, heard in zip(graph.into(name), hears, strict=True):
        says = facts[edge.source].says if edge.feedback else heard
        if says.shape != heard.shape:
            raise NetworkError(
                f"feedback edge {edge.name}: {edge.source!r} gives {list(says.shape)}, "
                f"but {name!r} takes {list(heard.shape)} there"
            )
