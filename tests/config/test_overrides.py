"""Overrides: "key.path=value" on top of a config."""

from typing import Any

import pytest

from hamdist.config import load
from hamdist.config.document import Document
from hamdist.config.overrides import apply, split
from hamdist.errors import ConfigError


def problems(*args: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*args)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        ("1e-3", 1e-3),
        ("7", 7),
        ("true", True),
        ("null", None),
        ("local", "local"),
        ("'7'", "7"),
        ("[0, 1]", [0, 1]),
        ("{a: 1, b: [x]}", {"a": 1, "b": ["x"]}),
        ("a=b", "a=b"),
        ("cuda:1", "cuda:1"),
    ],
)
def test_values_are_yaml(value: str, meaning: object) -> None:
    path, parsed = split(f"some.key={value}")
    assert path == ["some", "key"]
    assert parsed == meaning
    assert type(parsed) is type(meaning)


def test_they_reach_the_config() -> None:
    config = load(
        "digits",
        [
            "locality.mode=nonlocal",
            "learning.dissipation.weight=1e-1",
            "network.layers.1.repeat=2",
            "network.layers.0.modules.1.type=ReLU",
            "placement={threads: 2}",
            "locality.delays.0->1=4",
        ],
    ).config
    assert config.locality.mode == "nonlocal"
    assert config.learning.dissipation.weight == 0.1
    assert config.seed == 0
    assert config.network.layers is not None
    assert config.network.layers[0].modules is not None
    assert [layer.repeat for layer in config.network.layers] == [1, 2, 1]
    assert [module.type for module in config.network.layers[0].modules] == ["Linear", "ReLU"]
    assert config.placement.threads == 2
    assert config.locality.delays == {"0->1": 4}


def test_the_last_one_wins_and_says_so() -> None:
    loaded = load("digits", ["learning.beta=1", "learning.beta=2"])
    assert loaded.config.learning.beta == 2
    assert loaded.locate("learning.beta") == "override learning.beta=2"


def test_the_given_data_stay_as_they_are() -> None:
    data = {"a": {"b": [1, 2]}, "c": None}
    changed = apply(Document(data), ["a.b.0=5", "c.d=6"]).data
    assert changed == {"a": {"b": [5, 2]}, "c": {"d": 6}}
    assert data == {"a": {"b": [1, 2]}, "c": None}


def test_places_below_a_replaced_key_are_forgotten() -> None:
    document = Document({"a": {"b": 1}, "ab": 2}, {"": "f:1:1", "a": "f:1:2", "a.b": "f:1:6", "ab": "f:1:9"})
    marks = apply(document, ["a={c: 1}", "d.e=1"]).marks
    assert marks == {
        "": "f:1:1",
        "a": "override a={c: 1}",
        "ab": "f:1:9",
        "d": "override d.e=1",
        "d.e": "override d.e=1",
    }


HOW = "write it as key.path=value, for instance learning.beta=0.05 (null for nothing)"


@pytest.mark.parametrize("text", ["learning.beta", "=3", "seed=", "seed= ", ".seed=1", "a..b=1", "a b=1"])
def test_malformed(text: str) -> None:
    assert problems("digits", [text]) == [f"override {text}: {HOW}"]


def test_all_that_have_no_place_at_once() -> None:
    texts = ["network.layers.3.repeat=2", "network.layers.a=1", "seed.a=1", "seed=[1", "seed=1"]
    assert problems("digits", texts) == [
        "override network.layers.3.repeat=2: network.layers is a list of 3: its items are 0 to 2, not 3",
        "override network.layers.a=1: network.layers is a list of 3: its items are 0 to 2, not a",
        "override seed.a=1: seed is 0, which has no keys: set it as a whole, seed={…}",
        "override seed=[1: the value is not YAML: [1: expected ',' or ']', but got '<stream end>'",
    ]


def test_a_misspelt_override_is_an_unknown_key() -> None:
    assert problems("digits", ["learning.betta=1"]) == [
        "override learning.betta=1: learning.betta: unknown key; did you mean 'beta'?"
    ]
