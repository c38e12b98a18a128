"""What a config may name that is only read: no code but that which stands ready, and does what it is there for.

A run directory may come from a stranger, and its config names code. To run one's own config, its code is imported; what
only reads one (`check`, `load_model`, `generate`) imports nothing, unless it is told to trust it: layers are subclasses
of nn.Module, losses those or torch's functions, factories and other losses functions of the user's, and the program
that asks has imported all of them already.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hamdist.config.loader import load
from hamdist.config.network_schema import LayerConfig, ModuleConfig, NetworkConfig
from hamdist.config.schema import RunConfig
from hamdist.config.stream_schema import StreamConfig
from hamdist.errors import Problem, UserError, did_you_mean, first_of
from hamdist.objects import NOT_THE_USERS, as_factory, as_layer, as_loss, home_of, package_of, parts_of
from hamdist.runs.record import CONFIG

REMEDY = (
    "if you trust who wrote this config: --trust, or trust=True in Python, imports and calls what it names"
)

_TORCHS = ("torch.nn.modules.", "hamdist.physics.")
_INSTALLED = {"site-packages", "dist-packages"}
_LOSSES = ("torch.nn.functional", "hamdist.physics.losses")


def config_of_run(directory: Path, trust: bool) -> RunConfig:
    """The config of a run directory, whose network names nothing strange. Raises UserError."""
    config = load(directory / CONFIG).config
    if not trust:
        check_network(config.network)
    return config


def check_network(network: NetworkConfig) -> None:
    """Raises UserError with every name of the network that is strange."""
    if problems := first_of(_strange_names(network)):
        raise UserError(*problems)


def check_stream(stream: StreamConfig) -> None:
    """Raises UserError where the stream names a factory that is strange."""
    factory = getattr(stream, "factory", None)
    if factory is not None and (problems := _strange("stream.factory", factory, _factory)):
        raise UserError(*problems)


def _strange_names(network: NetworkConfig) -> Iterator[Problem]:
    if network.factory is not None:
        yield from _strange("network.factory", network.factory, _factory)
    for index, loss in enumerate(network.loss):
        if ":" in loss.type:
            yield from _strange(f"network.loss.{index}.type", loss.type, _loss)
    for key, module in _modules(network.layers or ()):
        yield from _strange(f"{key}.type", module.type, _layer)


def _modules(layers: Sequence[LayerConfig]) -> Iterator[tuple[str, ModuleConfig]]:
    """Those that are named by their module, and their keys."""
    for index, layer in enumerate(layers):
        parts = {"modules": layer.modules or ()}
        if layer.coupling is not None:
            parts = {"coupling.f": layer.coupling.f, "coupling.g": layer.coupling.g}
        for part, modules in parts.items():
            for place, module in enumerate(modules):
                if ":" in module.type:
                    yield f"network.layers.{index}.{part}.{place}", module


def _strange(key: str, path: str, judge: Callable[[Any, str], bool]) -> list[Problem]:
    """The problem with a name, if it is strange. judge: whether what it names is harmless; raises UserError."""
    try:
        if judge(_ready(path), path):
            return []
        return [Problem(key, f"{path!r} is not called to read a config; {REMEDY}")]
    except UserError as error:
        return [Problem(key, str(error))]


def _ready(path: str) -> Any:
    """What a name stands for, if that takes no import: names that a module makes on demand are not asked for.

    Raises UserError.
    """
    name_of_module, name = parts_of(path)
    module = sys.modules.get(name_of_module)
    found = getattr(module, "__dict__", {})
    if name in found:
        return found[name]
    if module is None or "__getattr__" in found:
        raise UserError(f"{path!r} is not imported to read a config; {REMEDY}")
    raise UserError(f"the module {name_of_module!r} has no {name!r}{did_you_mean(name, found)}")


def _layer(found: Any, path: str) -> bool:
    kind = as_layer(found, path)
    return package_of(kind, path) not in NOT_THE_USERS or home_of(kind, path).startswith(_TORCHS)


def _loss(found: Any, path: str) -> bool:
    kind = type(as_loss(found, path)) if isinstance(found, nn.Module) else as_loss(found, path)
    if isinstance(kind, type):
        return _layer(kind, path)
    return home_of(kind, path) in _LOSSES or _is_users(kind, path)


def _factory(found: Any, path: str) -> bool:
    return _is_users(as_factory(found, path), path)


def _is_users(found: Any, path: str) -> bool:
    """Whether a function, a class or the class of an object is the user's own, of no package that was installed."""
    package = package_of(found if inspect.isroutine(found) or isinstance(found, type) else type(found), path)
    module = sys.modules.get(package)
    if module is None or package in NOT_THE_USERS:
        return False
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return not any(_INSTALLED.intersection(Path(place).parts) for place in places if place)
