"""A run's weights as a plain state_dict, or in the plain PyTorch model."""

from pathlib import Path

import torch
from torch import nn

from hamdist.config.loader import load
from hamdist.errors import UserError
from hamdist.network.plain import plain_model
from hamdist.runs.assembly import dtype_of, network_of
from hamdist.runs.completeness import load_into, whole_weights
from hamdist.runs.record import CONFIG


def export(directory: str | Path, to: str | Path) -> int:
    """Writes the weights of a run as a file that `torch.load` reads and the plain PyTorch model takes.

    Keys are "<layer>.<tensor>", layers in the order of the network where the config lists them. Returns the number
    of tensors. Raises UserError where the directory holds no whole run, or the file cannot be written.
    """
    weights = whole_weights(Path(directory))
    layers = _listed(Path(directory))
    ordered = dict(
        sorted(weights.items(), key=lambda item: layers.get(item[0].partition(".")[0], len(layers)))
    )
    try:
        torch.save(ordered, to)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{to} cannot be written: {error}") from error
    return len(ordered)


def load_model(directory: str | Path) -> nn.Module:
    """The plain PyTorch model of a finished run, with its weights, in evaluation mode.

    Raises UserError where the directory holds no whole run, NetworkError for a network with feedback.
    """
    weights = whole_weights(Path(directory))
    config = load(Path(directory) / CONFIG).config
    model = plain_model(network_of(config.network, config.seed), config.seed, dtype_of(config.network))
    load_into(model, weights, f"the weights in {directory}")
    return model.eval()


def _listed(directory: Path) -> dict[str, int]:
    """The position of every layer that the run's config lists."""
    layers = load(directory / CONFIG).config.network.layers or ()
    return {name: index for index, name in enumerate(name for layer in layers for name in layer.names)}
