"""hamdist: neural networks that compute and learn over time (Hamiltonian Learning), each layer on its own device.

The map, from the ground up; imports only point down.

    physics/       one layer: its Hamiltonian, the steps, the rates, the pairing; pure torch
    streams/       where samples come from
    config/        YAML into frozen, typed objects
    report/        progress, metrics, tables, pictures, profiles
    network/       which layer hears which, and how far each sees
    runtime/       what moves tokens along the edges, tick by tick
    learner.py     learning one batch at a time, in Python
    execution.py   a run, from a config to the end of its stream: in this process (inline_run.py), or over Ray actors
                   (stage.py, ray_run.py); assembly, record, run_directory, summary, weights serve them
    generation.py  a finished run that goes on by itself
    launch/        runs over Ray actors on this machine, on a cluster, by Slurm
    command.py     what the commands share; cli.py is `hamdist`

Public names, loaded when first used:

    Learner      a network that learns batch after batch
    Network      layers, edges and losses; LayerSpec and LossSpec are its parts
    Coupling     a reversible module; Residual, a residual one
    Prediction   what left the network in a step
    run          runs a config to the end of its stream and returns the summary
    check, plan  what is wrong with a config; what it would run
    export       a run's weights as a plain state_dict
    load_model   the plain PyTorch model of a finished run, with its weights
    plain_model  the ordinary PyTorch model behind a network
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hamdist.checking import check
    from hamdist.execution import plan, run
    from hamdist.learner import Learner
    from hamdist.network.network import LayerSpec, LossSpec, Network
    from hamdist.network.plain import plain_model
    from hamdist.physics.blocks import Coupling, Residual
    from hamdist.runtime.loss_cell import Prediction
    from hamdist.weights import export, load_model

_HOMES = {
    "Coupling": "hamdist.physics.blocks",
    "Learner": "hamdist.learner",
    "LayerSpec": "hamdist.network.network",
    "LossSpec": "hamdist.network.network",
    "Network": "hamdist.network.network",
    "Prediction": "hamdist.runtime.loss_cell",
    "Residual": "hamdist.physics.blocks",
    "check": "hamdist.checking",
    "export": "hamdist.weights",
    "load_model": "hamdist.weights",
    "plain_model": "hamdist.network.plain",
    "plan": "hamdist.execution",
    "run": "hamdist.execution",
}

__all__ = [
    "Coupling",
    "LayerSpec",
    "Learner",
    "LossSpec",
    "Network",
    "Prediction",
    "Residual",
    "check",
    "export",
    "load_model",
    "plain_model",
    "plan",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hamdist' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
