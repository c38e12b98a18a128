"""Whether a run directory has all that its run should have left, before anything is made of it."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hamdist.config.loader import load
from hamdist.errors import UserError
from hamdist.network.loading import by_layer
from hamdist.report.wording import listed
from hamdist.runs.record import CONFIG, SUMMARY, WEIGHTS, load_weights, weights_file


def whole_weights(directory: Path) -> dict[str, Any]:
    """The state_dict of a run, keys "<layer>.<tensor>". Raises UserError where it is not whole, or cannot be read."""
    weights = load_weights(directory)
    bare: dict[str, dict[str, Any]] = {
        file.stem: {} for file in (directory / WEIGHTS).glob("*.safetensors")
    }  # layers without a tensor, too
    check_complete(directory, bare | by_layer(weights))
    return weights


def check_complete(directory: Path, weights: Mapping[str, Collection[str]]) -> None:
    """weights: the names of the tensors that are there, by layer.

    Every layer of the config must be there, every tensor that the summary names, and no other layer or tensor. Where
    layers come from a function, which is not called, they are those of the summary. Raises UserError with all that is
    missing or too much, and with what the summary says of it.
    """
    told = _summary(directory)
    written, missing = _written(told, directory), _of(told, "missing")
    layers = layers_listed(directory) or list(
        {**written, **_of(told, "layers"), **_of(told, "weights_of_tick")}
    )
    problems = [*_absent(layers, weights, missing), *_differing(written, weights), *_strange(layers, weights)]
    if problems:
        raise UserError(f"{directory} does not hold a whole run: {'; '.join(problems)}{_ending(told)}")


def layers_listed(directory: Path) -> list[str]:
    """The layers that the config lists, in order; none where a function makes them."""
    layers = load(directory / CONFIG).config.network.layers or ()
    return [name for layer in layers for name in layer.names]


def load_into(module: nn.Module, state: Mapping[str, Any], directory: str | Path) -> None:
    """Raises UserError where a run's state_dict has not all that the module has, or something else, also numbers of
    another type, which would lose digits.
    """
    if odd := list(_other_types(module, state)):
        raise UserError(f"{directory}: the weights are not those of its config: {'; '.join(odd)}")
    try:
        module.load_state_dict(state)
    except Exception as error:
        told = " ".join(str(error).split())
        raise UserError(f"{directory}: the weights are not those of its config: {told}") from error


def _other_types(module: nn.Module, state: Mapping[str, Any]) -> Iterator[str]:
    for name, own in module.state_dict().items():
        given = state.get(name)
        if isinstance(own, Tensor) and isinstance(given, Tensor) and own.dtype != given.dtype:
            yield f"{name} is of {given.dtype}, not of {own.dtype}"


def _absent(
    layers: Collection[str], weights: Mapping[str, Collection[str]], missing: Mapping[str, str]
) -> Iterator[str]:
    """missing: what the summary says, by file."""
    if absent := [name for name in layers if name not in weights]:
        why = dict.fromkeys(str(missing[file]) for name in absent if (file := weights_file(name)) in missing)
        because = f" ({'; '.join(why)})" if why else ""
        yield f"of {len(layers)} layers, the weights of {listed(absent)} are missing{because}"
    for name in layers:
        if name in weights and (file := weights_file(name)) in missing:
            yield f"layer {name!r} is not there in full ({missing[file]})"


def _differing(written: Mapping[str, list[str]], weights: Mapping[str, Collection[str]]) -> Iterator[str]:
    """written: the names of tensors, by layer."""
    for name in written.keys() & weights.keys():
        if lacking := [tensor for tensor in written[name] if tensor not in weights[name]]:
            yield f"layer {name!r} lacks {listed(lacking)}"
        if more := [tensor for tensor in weights[name] if tensor not in written[name]]:
            yield f"layer {name!r} has {listed(more)}, which its summary does not name"


def _strange(layers: Collection[str], weights: Collection[str]) -> Iterator[str]:
    known = set(layers) or set(weights)
    if strange := [name for name in weights if name not in known]:
        yield f"there are weights of {listed(strange)}, of which its config has no layer"


def _ending(told: Mapping[str, Any]) -> str:
    """How the run ended, where that explains something."""
    if not told:
        return "; there is no summary.json, so the run did not come to its end"
    return "" if told.get("status") == "finished" else f"; its run ended as {told.get('status')}"


def _written(told: Mapping[str, Any], directory: Path) -> dict[str, list[str]]:
    """The names of the tensors that were written, by layer. Raises UserError for anything else in their place."""
    found = told.get("weights", {})
    if isinstance(found, dict) and all(_are_names(names) for names in found.values()):
        return found
    raise UserError(f"{directory / SUMMARY} is not the summary of a run: `weights` names no tensors by layer")


def _are_names(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(name, str) for name in found)


def _of(told: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A mapping in a summary, which may be another hand's, or of an older version."""
    found = told.get(key)
    return found if isinstance(found, dict) else {}


def _summary(directory: Path) -> dict[str, Any]:
    """Empty where there is none. Raises UserError for one that cannot be read."""
    path = directory / SUMMARY
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is not the summary of a run: expected an object")
    return found
