"""From a typed config to the objects it speaks of: the stream, the network, its locality, how it learns."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from hamdist.config.learning_schema import AverageConfig, DelayConfig, LearningConfig
from hamdist.config.loss_schema import LossConfig
from hamdist.config.network_schema import (
    LayerConfig,
    ModuleConfig,
    NetworkConfig,
    ResidualConfig,
)
from hamdist.config.placement_schema import PlacementConfig
from hamdist.config.schema import LocalityConfig, RunConfig
from hamdist.config.stream_schema import StreamConfig
from hamdist.engine.spec import Execution
from hamdist.errors import ConfigError, MissingExtraError, NetworkError, Problem, StreamError, UserError
from hamdist.network.edges import edge_name, layer_name
from hamdist.network.given_layers import specs_of
from hamdist.network.graph import LOSS, Edge
from hamdist.network.layer_spec import LayerSpec
from hamdist.network.learning import AverageReach, Learning, PolicyName
from hamdist.network.locality import Horizon, Locality
from hamdist.network.losses import LossSpec
from hamdist.network.modules import ModuleSpec, build_coupling, build_stack
from hamdist.network.names import Names
from hamdist.network.network import Network
from hamdist.network.placement import Actors, Placement, Request, count_actors, place
from hamdist.objects import find_factory, find_loss
from hamdist.physics.dynamics import Dynamics
from hamdist.physics.losses import LOSSES, CrossEntropy, LossFunction
from hamdist.physics.modules import auto_scale
from hamdist.physics.randomness import BEYOND_TORCH, derive_seed, seeded
from hamdist.physics.rates import SCHEDULES, Adam, Adaptive, Rate, RMSprop, Schedule, warmed_up
from hamdist.physics.soap import Soap
from hamdist.runs.midpoint_chains import in_chain, roles_of
from hamdist.streams import Stream, open_stream

TICKS_TO_COMPILE = 8  # in one go, where nothing else is asked for
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def dtype_of(config: NetworkConfig) -> torch.dtype:
    return DTYPES[config.dtype]


def execution_of(config: PlacementConfig, live: bool = False) -> Execution:
    """In which form the layers run.  live: no sample waits for the next, whatever the config says."""
    alone = config.compile and config.runtime == "inline"
    chunk = 1 if live else config.chunk or (TICKS_TO_COMPILE if alone else 1)
    return Execution(config.stack or config.compile, config.compile, chunk)


def labels_of(config: StreamConfig) -> tuple[Any, ...]:
    """Of the classes 0, 1, …, where the config lists them."""
    return tuple(getattr(config, "classes", None) or ())


def stream_of(
    config: StreamConfig,
    seed: int,
    dtype: torch.dtype,
    horizon: int | None = None,
    on_bad: str = "stop",
) -> Stream:
    """The stream, not yet read.

    horizon: ticks that it must last for, if it knows how long it lasts.  on_bad: as in a config. Raises StreamError,
    MissingExtraError and ConfigError with the keys of the config.
    """
    settings = config.model_dump(exclude={"hold"})
    with stream_keys():
        left_out = "skip" if on_bad == "skip" else "stop"
        stream = open_stream(**settings, seed=seed, dtype=dtype, on_bad=left_out)
    check_horizon(horizon, stream.samples, config.batch_size)
    return stream


def run_stream(config: RunConfig) -> Stream:
    """That of a run, as `stream_of`."""
    dtype, horizon = dtype_of(config.network), config.locality.horizon
    return stream_of(config.stream, config.seed, dtype, horizon, config.on_bad)


def check_horizon(horizon: int | None, samples: int | None, rows: int) -> None:
    """Raises ConfigError for a window of more ticks than the stream has.  rows: samples a tick."""
    if horizon is not None and samples is not None and horizon > (ticks := -(-samples // rows)):
        message = f"a horizon of {horizon} ticks is longer than the stream, which has {ticks}: lower it"
        raise ConfigError(Problem("locality.horizon", message))


@contextmanager
def stream_keys() -> Iterator[None]:
    """Errors from within, which speak of a stream's own settings, speak of the config's keys."""
    try:
        yield
    except (StreamError, MissingExtraError) as error:
        error.restate(*(Problem(f"stream.{p.key}" if p.key else "stream", p.message) for p in error.problems))
        raise


@contextmanager
def network_keys(key: str = "network") -> Iterator[None]:
    """Errors from within that know no key of the config get this one."""
    try:
        yield
    except NetworkError as error:
        error.restate(*(p if p.key else Problem(key, p.message) for p in error.problems))
        raise


def network_of(config: NetworkConfig, seed: int) -> Network:
    """The network; modules are built later, each on its own. Raises NetworkError."""
    if config.factory is not None:
        specs = _from_factory(config.factory, config.args, seed)
    else:
        roles = roles_of(config)
        blocks = sum(layer.repeat for layer in config.layers or () if layer.residual)
        specs = tuple(
            LayerSpec(
                name,
                in_chain(_builder(layer, blocks, f"network.layers.{index}"), roles.get(name)),
                layer.join,
                layer.relaxing,
                layer.reads,
                f"network.layers.{index}",
            )
            for index, layer in enumerate(config.layers or ())
            for name in layer.names
        )
    names = Names(spec.name for spec in specs)
    edges = config.edges
    return Network(
        specs,
        _losses(config.loss, names),
        None
        if edges is None
        else tuple(
            Edge(layer_name(edge.source, names), layer_name(edge.target, names), edge.delay, shape=edge.shape)
            for edge in edges
        ),
    )


def locality_of(config: LocalityConfig, names: Sequence[str], hold: int) -> Locality:
    return Locality(
        mode=config.mode,
        pairing=config.pairing,
        stash=config.stash,
        gate=config.gate,
        hold=hold,
        groups=[[layer_name(layer, names) for layer in group] for group in config.groups or ()],
        delays={edge_name(name, names): delay for name, delay in config.delays.items()},
        balance=config.balance,
        warmup=config.warmup,
        tolerance=config.tolerance,
        horizon=None
        if config.horizon is None
        else Horizon(config.horizon, config.window == "slid", config.states == "reintegrated"),
        exact=config.time == "exact",
    )


def actors_of(config: PlacementConfig, names: Sequence[str]) -> Actors:
    """How the layers are to be spread, in terms of their names."""
    if isinstance(config.actors, str | int):
        return config.actors
    return [[layer_name(layer, names) for layer in layers] for layers in config.actors]


def check_placement(config: PlacementConfig, names: Sequence[str]) -> None:
    """Raises NetworkError for more actors than layers, and for lists and requests of actors that do not fit them."""
    if isinstance(config.actors, int):
        count_actors(config.actors, names, devices=1)
    elif config.actors != "auto":
        placement_of(config, names, devices=1)


def placement_of(
    config: PlacementConfig, names: Sequence[str], devices: int, costs: Mapping[str, float] | None = None
) -> Placement:
    """Every layer on an actor. Raises NetworkError."""
    requests = {layers: Request(**request.model_dump()) for layers, request in config.requests.items()}
    return place(names, actors_of(config, names), devices, costs, requests)


def learning_of(config: LearningConfig) -> Learning:
    weight = config.dissipation.weight
    dynamics = Dynamics(
        step=config.step,
        tau=config.tau,
        sign=config.sign,
        state_dissipation=config.dissipation.state,
        weight_dissipation=1.0 if weight is None else weight,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        dampening=config.dampening,
        clip=config.clip,
        rate=Rate(_beta(config.beta), adaptive=_adaptive(config.adaptive)),
    )
    policy, exponent = _policy(config.rate)
    return Learning(
        dynamics,
        config.gamma,
        policy,
        config.beta_scale,
        average=_reach(config.average),
        exponent=exponent,
    )


def _policy(rate: PolicyName | DelayConfig) -> tuple[PolicyName, float]:
    """By its name, with the power of the delay's factor."""
    return ("delay-scaled", rate.delay) if isinstance(rate, DelayConfig) else (rate, 1.0)


def _reach(average: float | AverageConfig | None) -> AverageReach | None:
    if isinstance(average, AverageConfig):
        return AverageReach(samples=average.samples)
    return None if average is None else AverageReach(decay=average)


def _scale(layer: LayerConfig, blocks: int) -> float | None:
    """That of a residual layer's branch, None of another layer.  blocks: L, the residual layers of the network."""
    if not isinstance(layer.residual, ResidualConfig):
        return 1.0 if layer.residual else None
    return auto_scale(blocks) if layer.residual.scale == "auto" else layer.residual.scale


def _builder(layer: LayerConfig, blocks: int, key: str) -> Any:
    if layer.coupling is not None:
        f = _module_specs(layer.coupling.f, f"{key}.coupling.f")
        g = _module_specs(layer.coupling.g, f"{key}.coupling.g")
        return partial(build_coupling, f, g)
    assert layer.modules is not None
    modules = _module_specs(layer.modules, f"{key}.modules")
    return partial(build_stack, modules, _scale(layer, blocks), merges=layer.join == "arguments")


def _module_specs(modules: Sequence[ModuleConfig], key: str) -> list[ModuleSpec]:
    return [ModuleSpec(m.type, m.arguments, f"{key}.{index}") for index, m in enumerate(modules)]


def _from_factory(factory: str, args: dict[str, Any], seed: int) -> tuple[LayerSpec, ...]:
    """The layers that a user's function returns, as modules or as builders."""
    try:
        with seeded(derive_seed(seed, "factory"), beyond=BEYOND_TORCH):
            layers = find_factory(factory)(**args)
        return specs_of(layers)
    except UserError as error:
        raise NetworkError(Problem("network.factory", str(error))) from error
    except Exception as error:
        raise NetworkError(Problem("network.factory", f"{factory} failed: {error!r}")) from error


def _losses(losses: Sequence[LossConfig], names: Sequence[str]) -> dict[str, LossSpec]:
    """Losses by node: "loss", or "loss-<layer>" for those after the first."""
    specs: dict[str, LossSpec] = {}
    for index, loss in enumerate(losses):
        layer = names[-1] if loss.layer is None else layer_name(loss.layer, names)
        node = LOSS if index == 0 else f"{LOSS}-{layer}"
        if node in specs:
            raise NetworkError(
                Problem(
                    f"network.loss.{index}",
                    f"layer {layer!r} bears two losses: weigh one, or write one function",
                )
            )
        specs[node] = LossSpec(_loss_function(loss, f"network.loss.{index}"), layer, loss.type, loss.weight)
    return specs


def _loss_function(loss: LossConfig, key: str) -> LossFunction:
    name = loss.type
    if loss.class_dim is not None:
        return CrossEntropy(loss.class_dim)
    if name in LOSSES:
        return LOSSES[name]
    try:
        found = find_loss(name)
    except UserError as error:
        raise NetworkError(Problem(key, str(error))) from error
    if not isinstance(found, type):
        return found
    try:
        return found()
    except Exception as error:
        raise NetworkError(Problem(key, f"{name} cannot be made without arguments: {error!r}")) from error


def _beta(beta: Any) -> float | Schedule:
    if isinstance(beta, int | float):
        return float(beta)
    arguments = beta.model_dump(exclude={"schedule", "warmup"})
    schedule = SCHEDULES[beta.schedule](**arguments)
    return warmed_up(schedule, beta.warmup) if beta.warmup else schedule


def _adaptive(config: Any) -> Adaptive | None:
    if config is None:
        return None
    if config.type == "rmsprop":
        return RMSprop(config.alpha, config.eps, config.momentum)
    if config.type == "soap":
        return Soap(config.b2, config.eps, config.basis, config.largest)
    return Adam(config.b1, config.b2, config.eps, decoupled=config.type == "adamw")
