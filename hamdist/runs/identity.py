"""Which network and which settings a state belongs to, as JSON, and what of them another learner has otherwise."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from hamdist.errors import Problem, UserError
from hamdist.network.edges import EdgeLike
from hamdist.network.given_layers import named_layers
from hamdist.network.losses import Losses, called
from hamdist.network.network import Network
from hamdist.network.plain_graph import PlainLayers
from hamdist.network.wording import describe
from hamdist.physics.losses import LOSSES, CrossEntropy, LossFunction
from hamdist.report.wording import listed
from hamdist.runs.chosen import Chosen

Told = Mapping[str, Any]


def identity_of(network: Network, chosen: Chosen) -> dict[str, Any]:
    """layers, edges, losses: of the network.  settings: all arguments beside it.  functions: the names of those that
    are no JSON.  place: how far it sees, with all that was left to its defaults.
    """
    edges = network.edges
    told = {
        "layers": {s.name: [s.join, s.relaxing, s.reads] for s in network.layers},
        "edges": None if edges is None else [[e.source, e.target, e.delay, e.shape] for e in edges],
        "losses": {
            node: _loss(spec.function, spec.layer, spec.weight) for node, spec in network.losses.items()
        },
        "called": {node: called(node, spec) for node, spec in network.losses.items()},
        "settings": chosen.told(),
        "functions": {name: name_of(function) for name, function in chosen.functions.items()},
        "place": asdict(chosen.locality(network.names)),
    }
    found: dict[str, Any] = json.loads(json.dumps(told))
    return found


def _loss(function: LossFunction, layer: str, weight: float) -> dict[str, Any]:
    """As `losses_of` takes it, where it has a name; else "function" is the one that it has in Python."""
    told = {"layer": layer, "weight": weight}
    if isinstance(function, CrossEntropy):
        return {"type": "cross_entropy", "class_dim": function.class_dim, **told}
    known = next((name for name, each in LOSSES.items() if each is function), None)
    return {"function": name_of(function), **told} if known is None else {"type": known, **told}


def name_of(function: Callable[..., Any]) -> str:
    """What Python calls a function, or the type of what can be called, without its module: a script has another one
    where it is imported."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return named.__qualname__


def again(
    told: Told,
    layers: Any,
    loss: Losses | None,
    edges: Iterable[EdgeLike] | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The arguments of a Learner beside its layers: those given, and for all others those that were told.

    Raises UserError for layers of other names, and for functions that must be given again.
    """
    if problem := _other_layers(told, _names(layers)):
        raise UserError(problem)
    found = {"loss": loss, "edges": edges}
    if loss is None and not isinstance(layers, Network):
        found["loss"] = _losses_told(told)
    if edges is None and not isinstance(layers, Network | PlainLayers):
        found["edges"] = _edges_told(told)
    if lost := [
        _absent(name, function) for name, function in told["functions"].items() if name not in settings
    ]:
        raise UserError(*lost)
    kept = dict(told["settings"], dtype=getattr(torch, told["settings"]["dtype"]))
    if settings.get("runtime", "ray") != "ray":
        kept.pop("actors", None)
    return {**found, **kept, **settings}


def _names(layers: Any) -> list[str]:
    """Those of layers as a user gives them. Raises NetworkError."""
    if isinstance(layers, Network):
        return list(layers.names)
    return list(layers.graph.layers if isinstance(layers, PlainLayers) else named_layers(layers))


def _other_layers(told: Told, names: list[str]) -> Problem | None:
    """What is wrong with the names of layers, and with their order."""
    if (theirs := list(told["layers"])) == names:
        return None
    return Problem("layers", f"the state is of {listed(theirs)}, and these are {listed(names)}")


def _losses_told(told: Told) -> Losses:
    """Raises UserError where there are others than those that have names."""
    losses, names = told["losses"], told["called"]
    key = "loss.{}" if len(losses) > 1 else "loss"
    lost = [
        _absent(key.format(names[node]), each["function"])
        for node, each in losses.items()
        if "function" in each
    ]
    if lost:
        raise UserError(*lost)
    return {names[node]: dict(each) for node, each in losses.items()}


def _absent(key: str, function: str) -> Problem:
    return Problem(key, f"was the function {function!r}, which no file holds: give it again")


def _edges_told(told: Told) -> list[EdgeLike] | None:
    keys = "from", "to", "delay", "shape"
    return None if told["edges"] is None else [dict(zip(keys, edge, strict=True)) for edge in told["edges"]]


def differences(theirs: Told, ours: Told) -> Iterator[Problem]:
    """What of the identity of a state is not that of the learner that is to take it up.

    How it learns may change, and how it is executed; but not which numbers there are, and whose they are.
    """
    if problem := _other_layers(theirs, list(ours["layers"])):
        yield problem
        return
    for name, kind in theirs["layers"].items():
        if kind != ours["layers"][name]:
            yield _problem(f"layers.{name}", kind, ours["layers"][name])
    if _all_edges(theirs) != _all_edges(ours):
        yield _problem("edges", _all_edges(theirs), _all_edges(ours))
    yield from _loss_differences(theirs, ours)
    for key, value in theirs["place"].items():
        if value != ours["place"].get(key):
            yield _problem(_ARGUMENTS.get(key, key), value, ours["place"].get(key))
    for key in ("seed", "dtype"):
        if theirs["settings"][key] != ours["settings"][key]:
            yield _problem(key, theirs["settings"][key], ours["settings"][key])
    if (one := _adaptive(theirs)) != (other := _adaptive(ours)):
        yield _problem("adaptive", one, other)
    if (one := _keeps_mean(theirs)) != (other := _keeps_mean(ours)):
        yield Problem("average", f"weights {_AVERAGED[one]} in the state, and {_AVERAGED[other]} here")


def _adaptive(told: Told) -> Any:
    """Which rule has moments of its own, if any."""
    return (told["settings"].get("adaptive") or {}).get("type")


def _keeps_mean(told: Told) -> bool:
    return told["settings"].get("average") is not None


_AVERAGED = {True: "are averaged", False: "are not averaged"}
_ARGUMENTS = {"mode": "locality"}


def _problem(key: str, theirs: Any, ours: Any) -> Problem:
    return Problem(key, f"{theirs!r} in the state, and {ours!r} here")


def _all_edges(told: Told) -> Any:
    """Also where they are the chain, and said, or not said, so."""
    if told["edges"] is not None:
        return [edge[:3] for edge in told["edges"]]
    names = list(told["layers"])
    return [[one, other, None] for one, other in pairwise(names)]


def _loss_differences(theirs: Told, ours: Told) -> Iterator[Problem]:
    if theirs["losses"].keys() != ours["losses"].keys():
        yield _problem("loss", list(theirs["called"].values()), list(ours["called"].values()))
        return
    for node, loss in theirs["losses"].items():
        other = ours["losses"][node]
        if any(loss.get(key) != other.get(key) for key in ("layer", "type", "class_dim")) or _renamed(
            loss, other
        ):
            yield _problem(f"loss.{theirs['called'][node]}", _kind(loss), _kind(other))


def _renamed(one: Told, other: Told) -> bool:
    """Whether both are functions that Python calls differently, as far as it calls them anything."""
    names = one.get("function", ""), other.get("function", "")
    return names[0] != names[1] and not any("<lambda>" in name for name in names)


def _kind(loss: Told) -> str:
    return f"{loss.get('type') or loss['function']} on {loss['layer']}"


def misfits(theirs: Told, own: Told) -> Iterator[Problem]:
    """The forms of the tensors of every layer, by name, of a state and of these layers."""
    for layer, ours in own.items():
        saved = theirs.get(layer, {})
        for name in dict.fromkeys([*saved, *ours]):
            if (them := saved.get(name, "nothing")) != (us := ours.get(name, "nothing")):
                yield Problem(f"{layer}.{name}", f"{them} in the state, and {us} here")


def shapes_of(tensors: Mapping[str, Any]) -> dict[str, str]:
    """ "[16, 64] float32", by name."""
    return {name: describe(tensor) for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
