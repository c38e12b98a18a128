"""Chains of midpoint steps in a config: which layers are steps, which begin a chain, which hear what leaves one."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

from torch import nn

from hamdist.config.network_schema import NetworkConfig
from hamdist.errors import NetworkError, Problem
from hamdist.network.edges import layer_name
from hamdist.network.modules import build_after_midpoint, build_midpoint
from hamdist.network.names import Names

Role = Literal["start", "step", "end"]


def roles_of(config: NetworkConfig) -> dict[str, Role]:
    """Those of the layers that have one. Raises NetworkError where two signals meet what takes one."""
    steps = {name: layer.midpoint for layer in config.layers or () for name in layer.names}
    if not any(steps.values()):
        return {}
    heard = _heard(config, names := Names(steps))
    if problems := [*_meetings(steps, heard, names), *_judged(config, steps, names)]:
        raise NetworkError(*problems)
    follows = {name: any(steps.get(source) for source in heard[name]) for name in names}
    placed: dict[str, Role] = {name: "step" if follows[name] else "start" for name in names if steps[name]}
    return placed | {name: "end" for name in names if follows[name] and not steps[name]}


def in_chain(build: Callable[[], nn.Module], role: Role | None) -> Any:
    """What builds a layer in its role, from what builds it in none."""
    if role is None:
        return build
    if role == "end":
        return partial(build_after_midpoint, build)
    return partial(build_midpoint, build, role == "start")


def _heard(config: NetworkConfig, names: Names) -> dict[str, list[str]]:
    """By layer, whom it hears."""
    edges = (
        list(pairwise(names))
        if config.edges is None
        else [(layer_name(e.source, names), layer_name(e.target, names)) for e in config.edges]
    )
    heard: dict[str, list[str]] = {name: [] for name in names}
    for source, target in edges:
        heard.setdefault(target, []).append(source)
    return heard


def _meetings(steps: dict[str, bool], heard: dict[str, list[str]], names: Sequence[str]) -> Iterator[Problem]:
    rank = {name: number for number, name in enumerate(names)}
    for name in names:
        found = [source for source in heard[name] if steps.get(source)]
        if found and (len(heard[name]) > 1 or rank[found[0]] >= rank[name]):
            yield Problem(
                "network.edges",
                f"layer {name!r} hears {found[0]!r}, a midpoint step, which gives two signals, and something else: let "
                "it hear that alone",
            )


def _judged(config: NetworkConfig, steps: dict[str, bool], names: Names) -> Iterator[Problem]:
    for index, loss in enumerate(config.loss):
        layer = names[-1] if loss.layer is None else layer_name(loss.layer, names)
        if steps.get(layer):
            yield Problem(
                f"network.loss.{index}",
                f"layer {layer!r} is a midpoint step, which gives two signals: let a layer without midpoint follow it, "
                "and bear the loss",
            )
