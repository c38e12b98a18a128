"""Residual branches of any scale: what they compute, what "auto" is, and where nobody knows it.

Tolerance 1e-12 in float64 where only the order of rounding differs, 1e-10 over whole runs.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.comparing import largest_difference
from support.samples import samples
from torch import nn

from hamdist import Learner, Network, Residual, plain_model
from hamdist.config import load
from hamdist.errors import ConfigError, NetworkError
from hamdist.planning.build_plan import kind_of
from hamdist.runs.assembly import network_of


def block(scale: Any = "auto") -> Residual:
    return Residual(nn.Sequential(nn.Linear(8, 8), nn.Tanh()), scale)


def layers(scale: Any = "auto") -> list[nn.Module]:
    """Four branches in three layers, and a head."""
    torch.manual_seed(0)
    both = nn.Sequential(block(scale), block(scale))
    return [each.double() for each in (block(scale), both, block(scale), nn.Linear(8, 3))]


def scaled(body: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return x + 0.5 * body(x)


def test_auto_is_one_over_the_root_of_all_blocks() -> None:
    """Half, of four; in every form of the network, and the modules that were given wait still."""
    given, (x, target) = layers(), samples(1, (8,))[0]
    plain = copy.deepcopy(given)
    expected = scaled(plain[0].body, x)
    for part in plain[1]:
        expected = scaled(part.body, expected)
    expected = plain[3](scaled(plain[2].body, expected))
    learner = Learner(given, dtype=torch.float64, beta=0.0)
    learner.step(x, target)
    for output in (
        learner.predict(x),
        learner.plain_model()(x),
        plain_model(learner.network, dtype=x.dtype)(x),
    ):
        assert torch.allclose(output, expected, rtol=0, atol=1e-12)
    assert given[0].scale == "auto"


def run(given: list[nn.Module], **how: Any) -> dict[str, torch.Tensor]:
    learner = Learner(given, dtype=torch.float64, dissipation={"weight": 0.5}, beta=0.05, **how)
    learner.steps(samples(40, (8,)))
    learner.drain()
    return learner.state_dict()


def test_a_stack_learns_alike() -> None:
    stacked, plain = run(layers(), stack=True, chunk=4), run(layers(0.5))
    assert largest_difference(stacked, plain) < 1e-10
    assert largest_difference(plain, run(layers(1.0))) > 1e-3


def test_non_local_is_sgd_of_the_scaled_network() -> None:
    """1e-12: one update is one step of torch.optim.SGD, through autograd."""
    plain = nn.Sequential(*copy.deepcopy(layers(0.5)))
    optimiser = torch.optim.SGD(plain.parameters(), 0.05, momentum=0.5)
    for x, target in samples(40, (8,)):
        optimiser.zero_grad()
        nn.functional.cross_entropy(plain(x), target).backward()
        optimiser.step()
    assert largest_difference(run(layers(), locality="nonlocal"), plain.state_dict()) < 1e-12


def test_a_config_counts_its_residual_layers() -> None:
    """Those whose scale is a number are counted, too."""
    body = "modules: [{type: Linear, in_features: 64, out_features: 64}, {type: Tanh}]"
    rows = (
        f"name: a, repeat: 14, residual: {{}}, {body}",
        f"name: b, repeat: 2, residual: {{scale: 2}}, {body}",
    )
    config = load("digits", ["network.layers=[" + ", ".join(f"{{{row}}}" for row in rows) + "]"]).config
    made = [spec.make(0, torch.float64, torch.device("cpu")) for spec in network_of(config.network, 0).layers]
    assert [layer.pure.module.scale for layer in made] == [0.25] * 14 + [2] * 2
    assert kind_of(made[0]) == "Residual(Linear+Tanh, scale 0.25)"


def test_a_learner_counts_again_with_other_weights() -> None:
    learner = Learner(layers(), dtype=torch.float64)
    learner.load_state_dict(nn.Sequential(*layers()).state_dict())
    assert plain_model(learner.network)[0].scale == 0.5


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: plain_model(Network.of([block, nn.Linear(8, 3)], "cross_entropy")),
            "layer '0' has a Residual of scale 'auto'",
        ),
        (lambda: block()(torch.zeros(1, 8)), "this block is in none"),
        (lambda: block(0), "a number more than 0, not 0"),
        (lambda: block(math.nan), "a number more than 0, not nan"),
        (lambda: block(True), "a number more than 0, not True"),
    ],
)
def test_what_nobody_knows_is_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises((NetworkError, ValueError), match=told):
        make()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("{scale: 0}", r"residual\.scale: must be greater than 0, got 0"),
        ("{scale: big}", r"residual\.scale: expected auto, or a number more than 0, got 'big'"),
        ("{scale: true}", r"residual\.scale: expected auto, or a number more than 0"),
        ("1", r"residual: expected true, false, or {scale: …}, got 1"),
    ],
)
def test_a_config_says_what_it_accepts(value: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load("digits", [f"network.layers.1.residual={value}"])


def test_a_coupling_is_no_residual_layer() -> None:
    """It would have been left out without a word."""
    half = "[{type: Linear, in_features: 32, out_features: 32}]"
    layer = f"{{name: a, residual: true, coupling: {{f: {half}, g: {half}}}}}"
    with pytest.raises(ConfigError, match="a coupling adds its input by itself"):
        load("digits", [f"network.layers=[{layer}]"])
