"""A run's weights as a plain state_dict, or in the plain PyTorch model."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from hamdist.errors import UserError
from hamdist.network.plain import plain_model
from hamdist.runs.assembly import dtype_of, network_of
from hamdist.runs.completeness import layers_listed, load_into, whole_weights
from hamdist.runs.trust import config_of_run


def export(directory: str | Path, to: str | Path) -> int:
    """Writes the weights of a run as a file that `torch.load` reads and the plain PyTorch model takes.

    Keys are "<layer>.<tensor>", layers in the order of the network where the config lists them. Returns the number
    of tensors. Raises UserError where the directory holds no whole run, or the file cannot be written.
    """
    weights = whole_weights(Path(directory))
    places = {name: place for place, name in enumerate(layers_listed(Path(directory)))}
    ordered = dict(
        sorted(weights.items(), key=lambda item: places.get(item[0].partition(".")[0], len(places)))
    )
    try:
        torch.save(ordered, to)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{to} cannot be written: {error}") from error
    return len(ordered)


def load_model(directory: str | Path, trust: bool = False) -> nn.Module:
    """The plain PyTorch model of a finished run, with its weights, in evaluation mode; of layers with a memory a
    PlainSequence, which takes sequences [B, T, …] and hands on its state.

    trust: whether code that its config names may be imported and called, beyond torch's layers and what this program
    has imported itself. Raises UserError where the directory holds no whole run, or names such code, NetworkError for a
    network with feedback.
    """
    weights = whole_weights(Path(directory))
    config = config_of_run(Path(directory), trust)
    network = replace(network_of(config.network, config.seed), tau=config.learning.tau)
    model = plain_model(network, config.seed, dtype_of(config.network))
    load_into(model, weights, directory)
    return model.eval()
