"""Configs as nobody would write them: sound ones with something changed, in their values, their shape or their text."""

import copy
import random
from collections.abc import Iterator
from typing import Any

from hamdist.config.document import dump

LINEAR = {"type": "Linear", "in_features": 64, "out_features": 64}
HEAD = {"type": "Linear", "in_features": 64, "out_features": 10}
HALF = {"type": "Linear", "in_features": 32, "out_features": 32}
BASES: list[dict[str, Any]] = [
    {
        "name": "chain",
        "seed": 1,
        "stream": {"source": "digits", "batch_size": 4, "samples": 12, "holdout": 0.01},
        "network": {
            "loss": "cross_entropy",
            "layers": [
                {"name": "a", "modules": [LINEAR, {"type": "Tanh"}]},
                {
                    "name": "b",
                    "repeat": 2,
                    "residual": True,
                    "modules": [LINEAR, {"type": "Dropout", "p": 0.5}],
                },
                {"name": "head", "modules": [HEAD]},
            ],
        },
        "locality": {"mode": "local", "pairing": "stashed", "delays": {"0->1": 2}},
        "learning": {"beta": {"schedule": "cosine", "start": 0.1, "over": 10}, "beta_scale": {"*.bias": 0.5}},
        "placement": {"device": "cpu", "threads": 1, "stack": True},
    },
    {
        "name": "graph",
        "stream": {"source": "digits", "batch_size": 2, "samples": 6, "hold": 8, "holdout": 0.01},
        "network": {
            "dtype": "float64",
            "loss": [{"type": "cross_entropy", "layer": "head", "weight": 0.5}],
            "layers": [
                {"name": "c", "coupling": {"f": [HALF], "g": [HALF, {"type": "Tanh"}]}},
                {"name": "r", "relaxing": 2.0, "modules": [LINEAR]},
                {"name": "head", "join": "concat", "modules": [{**HEAD, "in_features": 128}]},
            ],
            "edges": ["c->r", "r->head", {"from": "c", "to": "head", "delay": 1}],
        },
        "locality": {
            "mode": "groups",
            "groups": [["c", "r"], ["head"]],
            "pairing": "current",
            "balance": True,
        },
        "learning": {"adaptive": {"type": "adamw", "b1": 0.9}, "tau": 1.0, "step": "semi-implicit"},
        "placement": {"runtime": "inline", "actors": [["c", "r"], ["head"]], "requests": {"c": {"cpus": 1}}},
    },
    {
        "name": "wave",
        "stream": {
            "source": "signals",
            "signal": [{"sines": [[1, 2]]}, "smoHfHa"],
            "window": 3,
            "samples": 12,
        },
        "network": {
            "loss": "mse",
            "layers": [
                {"name": "m", "modules": [{"type": "CTBE", "input_size": 6, "hidden_size": 8}]},
                {"name": "out", "modules": [{"type": "Linear", "in_features": 8, "out_features": 2}]},
            ],
        },
        "locality": {"time": "backward", "horizon": 3, "mode": "nonlocal"},
        "learning": {"dissipation": {"state": 1.0, "weight": 2.0}, "tau": 0.5},
    },
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 0.5, -0.5, 1e30, 1e-30, 1e308, float("inf"), float("nan")),
    *(2**31, 2**62, 2**63, 2**64, -(2**63), 10**50, 10**900, -0.0, 20_000, 20_001),
    *("", "no", "on", "a", "b", "0", "1e3", "../x", "a\nb", "\x00", "é" * 50, "x" * 300, "source", "loss"),
    *("->", "a->b", "0->1", "subprocess:getoutput", "os:system", "builtins:eval", "torch:load", "a:b", ":"),
    *("torch.nn:Linear", "Linear", "GRU", "Module", "DataParallel", "float64", "mse", "nll", "river", "csv"),
    *("lectures", "digits", "nonlocal", "reversible", "current", "graph", "settled", "backward", "zeros"),
    *("cuda:99", "ray://x", "auto", "per-layer", [], {}, [[]], [1], ["a"], [None], {"a": 1}, [[0], [0]]),
    *({"type": "Linear"}, {1: 2}, {"": 0}, {"<<": 1}),
]
WORDS = [
    *("*a", "&a", "<<: ", "!!int ", "!!python/name:os.system ", "!!binary ", "? ", "- ", "{", "}", "[", "]"),
    *(
        ": ",
        "\t",
        "'",
        '"',
        "|",
        ">",
        "#",
        "%",
        "@",
        "`",
        "\x00",
        "\x07",
        "\ufeff",
        "\u2028",
        "---\n",
        "...\n",
    ),
    *("9" * 2000, "\n"),
]

Path = tuple[Any, ...]


def mutants(count: int, seed: int = 0) -> Iterator[str | bytes]:
    """So many texts of configs, the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        data = copy.deepcopy(draw.choice(BASES))
        for _ in range(draw.choice([0, 1, 1, 1, 2, 4])):
            _change(draw, data)
        text = dump(data)
        for _ in range(draw.choice([0, 0, 0, 1, 2, 5])):
            text = _scribble(draw, text)
        yield _noise(draw, text.encode("utf-8", "surrogatepass")) if draw.random() < 0.05 else text


def places(data: Any, path: Path = ()) -> Iterator[Path]:
    """Where there is anything."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def _change(draw: random.Random, data: Any) -> None:
    """Another value, a key left out or put in, something moved or doubled."""
    *above, key = draw.choice(list(places(data)))
    holder = data
    for part in above:
        holder = holder[part]
    match draw.randrange(6):
        case 0:
            del holder[key]
        case 1:
            at, value = draw.choice(list(places(data))), data
            for part in at:
                value = value[part]
            holder[key] = copy.deepcopy(value)
        case 2 if isinstance(holder, dict):
            new = draw.choice([*holder, "x", "type", "args", "repeat", 1, None, "a b", ""])
            holder[new] = copy.deepcopy(draw.choice(VALUES))
        case 3 if isinstance(holder, list):
            holder += holder[:] if len(holder) < 8 else []
        case _:
            holder[key] = copy.deepcopy(draw.choice(VALUES))


def _scribble(draw: random.Random, text: str) -> str:
    """Characters cut out, put in, or doubled."""
    at, length = draw.randrange(len(text) + 1), draw.choice([1, 1, 3, 20])
    match draw.randrange(4):
        case 0:
            return text[:at] + text[at + length :]
        case 1:
            return text[:at] + text[at : at + length] * 2 + text[at + length :]
        case _:
            return text[:at] + draw.choice(WORDS) + text[at:]


def _noise(draw: random.Random, data: bytes) -> bytes:
    """Some bytes are others."""
    changed = bytearray(data)
    for _ in range(3):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)
