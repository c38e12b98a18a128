"""hamdist: neural networks that compute and learn over time (Hamiltonian Learning), each layer on its own device.

The map, from the ground up; imports only point down.

    physics/       one layer: its Hamiltonian, the steps, the rates, the memory; pure torch
    compiler/      functions of tensors as bare operations, and as machine code
    network/       which layer hears which, and how far each sees
    engine/        what moves signals and costates along the edges, tick by tick, in one process
    transport/     what carries messages between two actors
    cluster/       workers, and Ray, which places, starts and watches them
    runs/          from a config to the end of its stream and a run directory

    streams/       where samples come from
    config/        YAML into frozen, typed objects
    planning/      what will run, and what it will cost
    report/        progress, metrics, tables, pictures, profiles
    learner.py     learning one batch at a time, in Python, here or on actors
    launch/        runs over Ray actors on this machine, on a cluster, by Slurm
    command.py     what the commands share; cli.py is `hamdist`
    errors.py      what can go wrong, by whose hand; objects.py: the user's own code, by its name
    naming.py      names that become files; signal_mask.py: moments in which no signal comes in between; leaving.py:
                   a program that a signal ends

Public names, loaded when first used:

    Learner      a network that learns batch after batch
    Network      layers, edges and losses; LayerSpec, Edge and LossSpec are its parts
    Coupling     a reversible module; Residual, a residual one
    midpoint     any blocks that keep the shape as reversible layers; Midpoint, one of these
    Prediction   what left the network in a step
    run          runs a config to the end of its stream and returns the summary
    check, plan  what is wrong with a config; what it would run
    export       a run's weights as a plain state_dict
    load_model   the plain PyTorch model of a finished run, with its weights
    save_state, load_state   what a user keeps beside a learner, a replay buffer say, as one file
    plain_model  the ordinary PyTorch model behind a network
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hamdist.engine.loss_node import Prediction
    from hamdist.learner import Learner
    from hamdist.network.graph import Edge
    from hamdist.network.layer_spec import LayerSpec
    from hamdist.network.losses import LossSpec
    from hamdist.network.network import Network
    from hamdist.network.plain import plain_model
    from hamdist.physics.midpoint import Midpoint, midpoint
    from hamdist.physics.modules import Coupling, Residual
    from hamdist.runs.check import check
    from hamdist.runs.kept_things import load_state, save_state
    from hamdist.runs.run import plan, run
    from hamdist.runs.weights import export, load_model

_HOMES = {
    "Coupling": "hamdist.physics.modules",
    "Edge": "hamdist.network.graph",
    "Learner": "hamdist.learner",
    "LayerSpec": "hamdist.network.layer_spec",
    "LossSpec": "hamdist.network.losses",
    "Midpoint": "hamdist.physics.midpoint",
    "Network": "hamdist.network.network",
    "Prediction": "hamdist.engine.loss_node",
    "Residual": "hamdist.physics.modules",
    "check": "hamdist.runs.check",
    "export": "hamdist.runs.weights",
    "load_model": "hamdist.runs.weights",
    "load_state": "hamdist.runs.kept_things",
    "midpoint": "hamdist.physics.midpoint",
    "plain_model": "hamdist.network.plain",
    "plan": "hamdist.runs.run",
    "run": "hamdist.runs.run",
    "save_state": "hamdist.runs.kept_things",
}

__all__ = [
    "Coupling",
    "Edge",
    "LayerSpec",
    "Learner",
    "LossSpec",
    "Midpoint",
    "Network",
    "Prediction",
    "Residual",
    "check",
    "export",
    "load_model",
    "load_state",
    "midpoint",
    "plain_model",
    "plan",
    "run",
    "save_state",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hamdist' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
