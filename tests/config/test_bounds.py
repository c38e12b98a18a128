"""Numbers that no run could be made for: each is refused at once, by its key, in files and in overrides."""

from typing import Any

import pytest

from hamdist import check
from hamdist.config import load
from hamdist.errors import ConfigError

LINEAR = {"type": "Linear", "in_features": 64, "out_features": 64}
CONFIG: dict[str, Any] = {
    "name": "x",
    "stream": {"source": "digits", "batch_size": 16},
    "network": {"loss": "cross_entropy", "layers": [{"name": "a", "repeat": 2, "modules": [LINEAR]}]},
}
WAVES = "{source: signals, signal: smoHfHa, window: 3, ahead: 1}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["network.layers.0.repeat=1e30"], "network.layers.0.repeat: must be less than 2^63, got 1e+30"),
        (["network.layers.0.repeat=20001"], "network.layers.0.repeat: must be 20000 or less, got 20001"),
        (["network.layers.0.repeat=-1"], "network.layers.0.repeat: must be 1 or more, got -1"),
        (["network.layers.0.repeat=1.5"], "network.layers.0.repeat: expected a whole number, got 1.5"),
        (["network.layers.0.repeat=.inf"], "network.layers.0.repeat: must be a finite number, got inf"),
        ([f"stream.batch_size={2**63}"], f"stream.batch_size: must be less than 2^63, got {2**63}"),
        ([f"stream.batch_size={2**20 + 1}"], f"stream.batch_size: must be 1048576 or less, got {2**20 + 1}"),
        (["stream.batch_size=1e300"], "stream.batch_size: must be less than 2^63, got 1e+300"),
        (
            [f"stream.samples={10**900}"],
            "stream.samples: must be less than 2^63, got a whole number of 2990 bits",
        ),
        ([f"stream.hold={2**62}"], f"stream.hold: must be 1048576 or less, got {2**62}"),
        ([f"seed={2**64}"], f"seed: must be less than 2^63, got {2**64}"),
        (
            [f"locality.delays={{0->1: {2**62}}}"],
            f"locality.delays.0->1: must be 1048576 or less, got {2**62}",
        ),
        (
            ["locality={time: backward, horizon: 1e7}"],
            "locality.horizon: must be 1048576 or less, got 10000000.0",
        ),
        (["placement.threads=1e6"], "placement.threads: must be 1024 or less, got 1000000.0"),
        (["placement.chunk=1e6"], "placement.chunk: must be 4096 or less, got 1000000.0"),
        (
            ["placement.heartbeat_seconds=1e300"],
            "placement.heartbeat_seconds: must be 1e+06 or less, got 1e+300",
        ),
        ([f"stream={WAVES}", "stream.window=2e6"], "stream.window: must be 1048576 or less, got 2000000.0"),
        (
            [f"stream={WAVES}", "stream.batch_size=1e6", "stream.window=1000"],
            "stream.window: 1000000 rows of 1000 values are too many to be held in memory at once",
        ),
        ([f"stream={WAVES}", f"stream.ahead={2**62}"], f"stream.ahead: must be 1048576 or less, got {2**62}"),
        (
            ["stream={source: lectures, length: 1e12}"],
            "stream.length: must be 1048576 or less, got 1000000000000.0",
        ),
        (
            ["network.edges=[{from: 0, to: 1, shape: [1048576, 1048576]}]"],
            "network.edges.0.shape: a signal of 1.1e+12 numbers is too large",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_numbers_beyond_any_run(changes: list[str], message: str) -> None:
    assert any(line.endswith(message) for line in check(CONFIG, changes))


def test_layers_are_counted_together() -> None:
    layers = [{"name": name, "repeat": 11_000, "modules": [LINEAR]} for name in "ab"]
    with pytest.raises(
        ConfigError, match=r"^network\.layers: at most 20,000 layers make a network, not 22,000$"
    ):
        load({**CONFIG, "network": {"loss": "mse", "layers": layers}})


def test_integers_of_python_may_be_of_any_length() -> None:
    with pytest.raises(
        ConfigError, match=r"^seed: must be less than 2\^63, got a whole number of 33220 bits$"
    ):
        load({**CONFIG, "seed": 10**10_000})


def test_the_largest_numbers_are_taken() -> None:
    large = [
        f"seed={2**63 - 1}",
        f"stream.samples={2**63 - 1}",
        f"stream.batch_size={2**20}",
        "stream.hold=1048576",
    ]
    loaded = load(CONFIG, [*large, "network.layers.0.repeat=20000", "locality.delays={0->1: 1048576}"]).config
    assert (loaded.seed, loaded.stream.batch_size) == (2**63 - 1, 2**20)
