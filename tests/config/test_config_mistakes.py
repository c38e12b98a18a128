"""The message of every mistake that a config can hold."""

from copy import deepcopy
from typing import Any

import pytest

from hamdist.config import load
from hamdist.errors import ConfigError

LINEAR = {"type": "Linear", "in_features": 4, "out_features": 4}
MINIMAL: dict[str, Any] = {
    "name": "small",
    "stream": {"source": "digits"},
    "network": {
        "loss": "mse",
        "layers": [{"name": "a", "modules": [LINEAR]}, {"name": "b", "modules": [LINEAR]}],
    },
}


def config(**sections: dict[str, Any]) -> dict[str, Any]:
    """The minimal config, its sections updated with these."""
    merged = deepcopy(MINIMAL)
    for name, keys in sections.items():
        merged[name] = {**merged.get(name, {}), **keys}
    return merged


def problems(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    return [str(problem) for problem in caught.value.problems]


MISTAKES = [
    ({"stream": {"batch": 3}}, "stream.batch: unknown key; did you mean 'batch_size'?"),
    (
        {"placement": {"x": 3}},
        "placement.x: unknown key; accepted: runtime, actors, requests, device, threads, stack, compile, chunk, "
        "address, link, ports, spares, heartbeat_seconds, progress_seconds",
    ),
    ({"stream": {"source": "digit"}}, "stream.source: 'digit' is not accepted; did you mean 'digits'?"),
    ({"locality": {"mode": "lokal"}}, "locality.mode: 'lokal' is not accepted; did you mean 'local'?"),
    (
        {"locality": {"mode": 3}},
        "locality.mode: 3 is not accepted; accepted: local, nonlocal, groups, cyclic",
    ),
    ({"placement": {"stack": 1}}, "placement.stack: expected true or false, got 1"),
    ({"placement": {"compile": "yes"}}, "placement.compile: expected true or false, got 'yes'"),
    ({"placement": {"chunk": 0}}, "placement.chunk: must be 1 or more, got 0"),
    (
        {"checkpoint": {"when": "off"}},
        "checkpoint.when: 'off' is not accepted; accepted: auto, always, never",
    ),
    ({"checkpoint": {"every": 3}}, "checkpoint.every: unknown key; did you mean 'every_ticks'?"),
    ({"checkpoint": {"every_ticks": 0}}, "checkpoint.every_ticks: must be 1 or more, got 0"),
    ({"checkpoint": {"every_seconds": 0}}, "checkpoint.every_seconds: must be greater than 0, got 0"),
    ({"checkpoint": {"keep": 0}}, "checkpoint.keep: must be 1 or more, got 0"),
    ({"checkpoint": {"to": ""}}, "checkpoint.to: must not be empty"),
    (
        {"checkpoint": {"to": "memory://here"}},
        "checkpoint.to: memory://here is gone with each process: name a folder, or a store that all of them reach",
    ),
    ({"recovery": {"max_failures": -1}}, "recovery.max_failures: must be 0 or more, got -1"),
    ({"on_bad": "ignore"}, "on_bad: 'ignore' is not accepted; accepted: stop, skip, rollback"),
    ({"rollback": {"factor": 2}}, "rollback.factor: must be 1 or less, got 2"),
    (
        {"on_bad": "rollback", "checkpoint": {"when": "never"}},
        "on_bad: 'rollback' goes back to a checkpoint: set checkpoint.when to 'auto', or on_bad to 'stop'",
    ),
    ({"placement": {"spares": -1}}, "placement.spares: must be 0 or more, got -1"),
    ({"placement": {"stacked": True}}, "placement.stacked: unknown key; did you mean 'stack'?"),
    ({"learning": {"sign": 2}}, "learning.sign: 2 is not accepted; accepted: -1, 1"),
    ({"learning": {"tau": 0}}, "learning.tau: must be greater than 0, got 0"),
    ({"learning": {"tau": -1.0}}, "learning.tau: must be greater than 0, got -1.0"),
    ({"learning": {"beta": "0.1"}}, "learning.beta: expected a number, got '0.1'"),
    ({"learning": {"beta": True}}, "learning.beta: expected a number, got true"),
    ({"learning": {"beta": float("nan")}}, "learning.beta: must be a finite number, got nan"),
    ({"learning": {"beta": -0.1}}, "learning.beta: must be 0 or more, got -0.1"),
    ({"learning": {"gamma": float("inf")}}, "learning.gamma: must be a finite number, got inf"),
    ({"learning": {"nesterov": 1}}, "learning.nesterov: expected true or false, got 1"),
    ({"learning": {"adaptive": "adam"}}, "learning.adaptive: expected a mapping, got 'adam'"),
    ({"learning": {"adaptive": {}}}, "learning.adaptive.type: missing; accepted: adam, adamw, rmsprop, soap"),
    (
        {"learning": {"adaptive": {"type": "adam", "b1": 1}}},
        "learning.adaptive.b1: must be less than 1, got 1",
    ),
    (
        {"learning": {"adaptive": {"type": "rmsprop", "b1": 0.9}}},
        "learning.adaptive.b1: unknown key; accepted: type, alpha, eps, momentum",
    ),
    (
        {"learning": {"beta": {"schedule": "cosinus", "start": 1, "over": 5}}},
        "learning.beta.schedule: 'cosinus' is not accepted; did you mean 'cosine'?",
    ),
    (
        {"learning": {"beta": {"start": 1}}},
        "learning.beta.schedule: missing; accepted: cosine, linear, exponential, inverse-sqrt, step",
    ),
    (
        {"learning": {"beta": {"schedule": "linear", "start": 1, "over": 5, "factor": 2}}},
        "learning.beta.factor: unknown key; accepted: schedule, start, over, warmup, end",
    ),
    ({"learning": {"beta_scale": {"a.*": -1}}}, "learning.beta_scale.a.*: must be 0 or more, got -1"),
    (
        {"learning": {"nesterov": True, "step": "explicit"}},
        "learning.nesterov: nesterov needs step semi-implicit or exponential, not explicit",
    ),
    (
        {"learning": {"adaptive": {"type": "soap", "b1": 0.9}}},
        "learning.adaptive.b1: unknown key; accepted: type, b2, basis, largest, eps",
    ),
    (
        {"learning": {"nesterov": True, "adaptive": {"type": "adam"}}},
        "learning.nesterov: nesterov and adaptive exclude each other: remove one of them",
    ),
    ({"learning": {"dampening": 1.5}}, "learning.dampening: must be 1 or less, got 1.5"),
    (
        {"learning": {"dampening": 0.5, "nesterov": True, "dissipation": {"weight": 0.5}}},
        "learning.dampening: nesterov and dampening exclude each other: remove one of them",
    ),
    (
        {"learning": {"dampening": 0.5, "adaptive": {"type": "adam"}}},
        "learning.dampening: adaptive and dampening exclude each other: remove one of them",
    ),
    (
        {"learning": {"dampening": 0.5, "tau": 0.5, "dissipation": {"weight": 2.0}}},
        "learning.dampening: there is no momentum to dampen, since tau * dissipation.weight is 1: lower "
        "learning.dissipation.weight, or remove dampening",
    ),
    (
        {"learning": {"step": "explicit", "adaptive": {"type": "adamw"}}},
        "learning.adaptive: adamw needs step semi-implicit or exponential, not explicit",
    ),
    (
        {"learning": {"adaptive": {"type": "rmsprop"}, "dissipation": {"weight": 0.5}}},
        "learning.adaptive: rmsprop sets the dissipation of the weights: remove learning.dissipation.weight",
    ),
    ({"stream": {"samples": 1.5}}, "stream.samples: expected a whole number, got 1.5"),
    ({"stream": {"hold": 0}}, "stream.hold: must be 1 or more, got 0"),
    ({"stream": {"holdout": 1}}, "stream.holdout: must be less than 1, got 1"),
    ({"seed": -1}, "seed: must be 0 or more, got -1"),
    ({"name": 3}, "name: expected text, got 3"),
    ({"name": ""}, "name: must not be empty"),
    ({"stream": "digits"}, "stream: expected a mapping, got 'digits'"),
    ({"placement": None}, "placement: expected a mapping, got null"),
    (
        {"placement": {"device": "gpu"}},
        "placement.device: 'gpu' is not a device (accepted: auto, cpu, cuda, cuda:N)",
    ),
    ({"locality": {"delays": {"2->3": -4}}}, "locality.delays.2->3: must be 0 or more, got -4"),
    (
        {"locality": {"delays": {"2-3": 4}}},
        "locality.delays.2-3: '2-3' is not an edge: write it as 'from->to', for instance '0->1' or 'embed->head'",
    ),
    (
        {"locality": {"mode": "groups"}},
        "locality.groups: mode 'groups' needs them: lists of layers, for instance [[0, 1], [2, 3]]",
    ),
    (
        {"locality": {"groups": [[0], [1]]}},
        "locality.groups: mode 'local' has no groups: remove them, or set locality.mode to 'groups'",
    ),
    ({"locality": {"mode": "groups", "groups": [[0], []]}}, "locality.groups.1: needs at least 1, got 0"),
    (
        {"locality": {"mode": "groups", "groups": [[1.5]]}},
        "locality.groups.0.0: expected the name or the index of a layer, got 1.5",
    ),
    (
        {"locality": {"pairing": "current", "stash": "graph"}},
        "locality.stash: 'graph' is a form of pairing 'stashed', not of 'current': set locality.pairing=stashed,"
        " or locality.stash=inputs",
    ),
    ({"locality": {"stash": "graphs"}}, "locality.stash: 'graphs' is not accepted; did you mean 'graph'?"),
    (
        {"locality": {"gate": "settled"}},
        "locality.gate: 'settled' waits until today's activations have settled, so it needs pairing 'current',"
        " not 'stashed': set locality.pairing=current, or locality.gate=always",
    ),
    (
        {"network": {"loss": "cross_entrop"}},
        "network.loss: 'cross_entrop' is not a loss; did you mean 'cross_entropy'? (accepted: cross_entropy, mse, l1,"
        " huber, bce_with_logits, nll, or 'package.module:function')",
    ),
    (
        {"network": {"loss": {"type": "mse", "wait": 2}}},
        "network.loss.wait: unknown key; did you mean 'weight'?",
    ),
    ({"network": {"loss": ["mse", 3]}}, "network.loss.1: expected a mapping, got 3"),
    ({"network": {"loss": []}}, "network.loss: needs at least 1, got 0"),
    (
        {"network": {"edges": ["0-1"]}},
        "network.edges.0: '0-1' is not an edge: write it as 'from->to', for instance '0->1' or 'embed->head'",
    ),
    (
        {"network": {"edges": [3]}},
        "network.edges.0: expected an edge, 'from->to' or {from: …, to: …}, got 3",
    ),
    ({"network": {"edges": [{"from": 0}]}}, "network.edges.0.to: missing"),
    (
        {"network": {"edges": [{"from": 0, "to": 1, "delay": -1}]}},
        "network.edges.0.delay: must be 0 or more, got -1",
    ),
    (
        {"network": {"edges": [{"from": -1, "to": 1}]}},
        "network.edges.0.from: a layer's index is 0 or more, got -1",
    ),
    (
        {"network": {"factory": "my.nets:make"}},
        "network.factory: a network has either layers or a factory, not both",
    ),
    (
        {"network": {"factory": "nets.make", "layers": None}},
        "network.factory: 'nets.make' does not name an object: write it as 'package.module:name'",
    ),
    ({"network": {"layers": None}}, "network: a network needs layers, or a factory"),
    ({"network": {"layers": []}}, "network.layers: needs at least 1, got 0"),
    ({"network": {"args": {"width": 3}}}, "network.args: there is no factory to pass them to"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message[:48] for _, message in MISTAKES])
def test_mistakes(change: dict[str, Any], message: str) -> None:
    mistaken = (
        {**MINIMAL, **change} if not all(isinstance(v, dict) for v in change.values()) else config(**change)
    )
    assert problems(mistaken) == [message]


LAYER_MISTAKES = [
    ({"name": "a b"}, "name: a layer's name is made of letters, digits, '_' and '-', not 'a b'"),
    ({"name": "12"}, "name: '12' would be taken for an index: give the layer a name with a letter in it"),
    ({"name": "loss"}, "name: 'loss' is reserved: it is where samples enter or leave the network"),
    ({"name": "b"}, "name: there is a layer 'b' already"),
    ({"join": "con"}, "join: 'con' is not accepted; did you mean 'concat'?"),
    ({"relaxing": 0}, "relaxing: must be greater than 0, got 0"),
    ({"relaxing": 0.5}, "relaxing: T must be more than half of learning.tau (1), got 0.5"),
    ({"modules": []}, "modules: needs at least 1, got 0"),
    ({"modules": [{"bias": True}]}, "modules.0.type: missing"),
    (
        {"modules": [{"type": "Linear", "bias": {1}}]},
        "modules.0.bias: expected numbers, text, lists and mappings of these, got set",
    ),
    (
        {"coupling": {"f": [LINEAR], "g": [LINEAR]}},
        "coupling: a layer has either modules or a coupling, not both",
    ),
    (
        {"midpoint": True, "residual": True},
        "midpoint: a step of the midpoint rule adds its own input: leave out residual",
    ),
    (
        {"midpoint": True, "relaxing": 2.0},
        "midpoint: a step of the midpoint rule adds its own input: leave out relaxing",
    ),
    ({"coupling": {"f": [LINEAR]}}, "coupling.g: missing"),
]


@pytest.mark.parametrize(
    ("change", "message"), LAYER_MISTAKES, ids=[message[:40] for _, message in LAYER_MISTAKES]
)
def test_layer_mistakes(change: dict[str, Any], message: str) -> None:
    mistaken = config()
    mistaken["network"]["layers"].append({"name": "c", "modules": [LINEAR], **change})
    assert problems(mistaken) == [f"network.layers.2.{message}"]


def test_a_layer_of_nothing() -> None:
    assert problems(config(network={"layers": [{"name": "c"}]})) == [
        "network.layers.0: a layer needs modules, or a coupling"
    ]


def test_repeated_names_may_not_meet_others() -> None:
    layers = [{"name": "a1", "modules": [LINEAR]}, {"name": "a", "repeat": 2, "modules": [LINEAR]}]
    assert problems(config(network={"layers": layers})) == [
        "network.layers.1.name: there is a layer 'a1' already"
    ]


SOURCE_MISTAKES = [
    ({"source": "signals"}, "stream.signal: missing"),
    ({"source": "signals", "signal": {"sine": 3}}, "stream.signal.sine: unknown key; did you mean 'sines'?"),
    (
        {"source": "signals", "signal": {"sines": [[1, 0]]}},
        "stream.signal.sines.0.1: must be greater than 0, got 0",
    ),
    (
        {"source": "signals", "signal": ["smoHfHa", 3]},
        "stream.signal: expected the name of a signal, {sines: …} or {square: …}, got 3",
    ),
    ({"source": "csv", "path": "x.csv"}, "stream.target: missing"),
    (
        {"source": "csv", "path": "x.csv", "target": "y", "kind": "number", "classes": ["a", "b"]},
        "stream.classes: a target of kind 'number' has no classes: remove them, or set kind: class",
    ),
    (
        {"source": "csv", "path": "x.csv", "target": 0, "delimiter": "::"},
        "stream.delimiter: must be 1 long at most, got '::'",
    ),
    (
        {"source": "torch", "factory": "nothing"},
        "stream.factory: 'nothing' does not name an object: write it as 'package.module:name'",
    ),
    (
        {"source": "stdin", "shuffle": True},
        "stream.shuffle: unknown key; accepted: source, batch_size, samples",
    ),
]


@pytest.mark.parametrize(
    ("stream", "message"), SOURCE_MISTAKES, ids=[message for _, message in SOURCE_MISTAKES]
)
def test_source_mistakes(stream: dict[str, Any], message: str) -> None:
    assert any(problem.startswith(message) for problem in problems({**MINIMAL, "stream": stream}))


AN_ACTORS_LAYERS = "expected a list of an actor's layers, as in [[0, 1], [2]]"
ACTORS = "expected auto, per-layer, a number of actors, or lists of layers"
PACKED = (
    "layers are packed by cost, and so would be what is asked for them: set placement.actors to per-layer, or to lists"
    " of layers"
)
PLACEMENT_MISTAKES = [
    ({"runtime": "rya"}, "runtime: 'rya' is not accepted; did you mean 'ray'?"),
    ({"runtime": "slurm"}, "runtime: 'slurm' is not accepted; accepted: inline, ray"),
    ({"actors": "per-layr"}, "actors: 'per-layr' is not accepted; did you mean 'per-layer'?"),
    ({"actors": 0}, "actors: must be 1 or more, got 0"),
    ({"actors": 1.5}, "actors: expected a whole number, got 1.5"),
    ({"actors": True}, f"actors: {ACTORS}, got true"),
    ({"actors": None}, f"actors: {ACTORS}, got null"),
    ({"actors": {"a": 1}}, f"actors: {ACTORS}, got {{'a': 1}}"),
    ({"actors": []}, "actors: needs at least 1, got 0"),
    ({"actors": ["a", ["b"]]}, f"actors.0: {AN_ACTORS_LAYERS}, got 'a'"),
    ({"actors": [["a", "b"], []]}, "actors.1: needs at least 1, got 0"),
    ({"actors": [["a"], [-1]]}, "actors.1.0: a layer's index is 0 or more, got -1"),
    ({"actors": [[1.5]]}, "actors.0.0: expected the name or the index of a layer, got 1.5"),
    (
        {"address": "ray://head:10001"},
        "address: 'ray://head:10001' is Ray Client, whose driver stands outside the cluster: start hamdist on a node of"
        " the cluster, or use `hamdist launch cluster --submit`",
    ),
    *(
        ({"address": address}, f"address: {address!r} is not an address (accepted: auto, local, host:port)")
        for address in ("head", "head:", ":6379", "head:0", "head:65536", "::1:6379", "two words:1", "")
    ),
    ({"address": 6379}, "address: expected text, got 6379"),
    ({"link": "nccl"}, "link: 'nccl' is not accepted; accepted: auto, zeromq, torch"),
    ({"ports": 5000}, "ports: expected a list, got 5000"),
    ({"ports": [5000]}, "ports.1: missing"),
    ({"ports": [1, 2, 3]}, "ports: takes at most 2, got 3"),
    ({"ports": [0, 5000]}, "ports.0: must be 1 or more, got 0"),
    ({"ports": [5000, 65536]}, "ports.1: must be 65535 or less, got 65536"),
    ({"ports": [6000, 5000]}, "ports: the lowest comes first: [5000, 6000]"),
    ({"heartbeat_seconds": 0}, "heartbeat_seconds: must be greater than 0, got 0"),
    ({"progress_seconds": "5"}, "progress_seconds: expected a number, got '5'"),
    ({"threads": 0}, "threads: must be 1 or more, got 0"),
    ({"requests": {"a": {"cpus": 1}}}, f"requests: with actors: auto {PACKED}"),
    ({"requests": {"a": {"cpus": 1}}, "actors": 2}, f"requests: with actors: 2 {PACKED}"),
]


@pytest.mark.parametrize(
    ("placement", "message"), PLACEMENT_MISTAKES, ids=[message[:40] for _, message in PLACEMENT_MISTAKES]
)
def test_placement_mistakes(placement: dict[str, Any], message: str) -> None:
    assert problems(config(placement=placement)) == [f"placement.{message}"]


REQUEST_MISTAKES = [
    ({"a": 3}, ".a: expected a mapping, got 3"),
    ({1.5: {}}, ".1.5: expected text, got 1.5"),
    ({"": {}}, ".: must not be empty"),
    ({"a": {"gpu": 1}}, ".a.gpu: unknown key; did you mean 'gpus'?"),
    ({"a": {"cpus": 0}}, ".a.cpus: must be greater than 0, got 0"),
    ({"a": {"gpus": -1}}, ".a.gpus: must be 0 or more, got -1"),
    (
        {"a": {"gpus": 1.5}},
        ".a.gpus: a share of a GPU, or whole GPUs: above 1 it must be a whole number, got 1.5",
    ),
    ({"a": {"resources": {"camera": 0}}}, ".a.resources.camera: must be greater than 0, got 0"),
    ({"a": {"resources": {"GPU": 1}}}, ".a.resources.GPU: 'GPU' has a key of its own: gpus"),
    ({"a": {"labels": {"zone": 1}}}, ".a.labels.zone: expected text, got 1"),
    ({"a": {"device": "gpu"}}, ".a.device: 'gpu' is not a device (accepted: auto, cpu, cuda, cuda:N)"),
]


@pytest.mark.parametrize(
    ("requests", "message"), REQUEST_MISTAKES, ids=[message for _, message in REQUEST_MISTAKES]
)
def test_request_mistakes(requests: dict[Any, Any], message: str) -> None:
    mistaken = config(placement={"actors": "per-layer", "requests": requests})
    assert problems(mistaken) == [f"placement.requests{message}"]
