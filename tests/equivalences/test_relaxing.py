"""E6: a relaxing layer with T = τ is a delay of one tick; at equilibrium any T gives the backpropagated gradient.

Tolerance 1e-10 in float64.
"""

from dataclasses import replace

import pytest
import torch
from support.comparing import largest_difference
from support.inline import learning, run_through, runtime_of, weights
from support.networks import relaxed, residual_net
from support.random_networks import random_network
from support.samples import samples
from support.seeds import over_seeds
from torch import nn

from hamdist.errors import NetworkError
from hamdist.network.network import Network

TOLERANCE = 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 4, 8, 12])
@pytest.mark.parametrize("pairing", ["current", "stashed"])
@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_time_constant_tau_is_a_delay_of_one_tick(depth, pairing, tau):
    batches = samples(40, (8,))
    rule = learning(0.05, tau=tau, weight_dissipation=0.5)
    leaky = runtime_of(
        relaxed(residual_net(depth), tau),
        batches,
        mode="nonlocal",
        pairing=pairing,
        warmup="zeros",
        rule=rule,
    )
    delayed = runtime_of(
        residual_net(depth), batches, mode="local", pairing=pairing, warmup="zeros", rule=rule
    )
    ours, theirs = run_through(leaky, batches), run_through(delayed, batches)
    assert [p.first for p in ours] == [p.first for p in theirs] == list(range(0, 160, 4))
    assert max((a.output - b.output).abs().max() for a, b in zip(ours, theirs, strict=True)) < TOLERANCE
    assert largest_difference(weights(leaky), weights(delayed)) < TOLERANCE
    assert leaky.seen_once()
    assert delayed.seen_once()
    assert leaky.program.drain == delayed.program.drain


def test_without_warm_zeros_it_starts_with_nothing_and_learns_the_same_samples():
    batches = samples(10, (8,))
    runtime = runtime_of(relaxed(residual_net(3), 1.0), batches, mode="nonlocal")
    predictions = run_through(runtime, batches)
    assert [p.first for p in predictions] == list(range(0, 40, 4))
    assert runtime.seen_once()


@pytest.mark.slow
@pytest.mark.parametrize("constant", [0.7, 1.0, 1.9, 4.0])
@pytest.mark.parametrize("mode", ["nonlocal", "local"])
def test_at_equilibrium_any_time_constant_gives_the_gradient(constant, mode):
    """Input held, weights frozen (β = 0): the settled drive is autograd's gradient."""
    ((x, y),) = samples(1, (8,))
    layers = residual_net(4)
    runtime = runtime_of(
        relaxed(residual_net(4), constant),
        [(x, y)],
        mode=mode,
        pairing="current",
        gate="settled",
        hold=300,
        tolerance=1e-14,
        rule=learning(0.0),
    )
    run_through(runtime, [(x, y)])
    nn.functional.cross_entropy(nn.Sequential(*layers)(x), y).backward()
    for name, node in runtime.nodes.items():
        for key, parameter in layers[int(name)].named_parameters():
            assert (node.carry.weight_costate[key] - parameter.grad).abs().max() < TOLERANCE
    assert runtime.seen_once()


def test_settled_with_time_constant_tau_is_exact_at_the_shortest_hold():
    batches = samples(10, (8,))
    runtime = runtime_of(
        relaxed(residual_net(4), 1.0), batches, mode="nonlocal", pairing="current", gate="settled", hold=7
    )
    reference = runtime_of(residual_net(4), batches, mode="nonlocal")
    run_through(runtime, batches)
    run_through(reference, batches)
    assert largest_difference(weights(runtime), weights(reference)) < TOLERANCE


def test_the_leak_is_the_closed_form():
    """ξ(t) = φ (1 − (1 − τ/T)^t) for a held input and frozen weights."""
    ((x, y),) = samples(1, (8,))
    linear = nn.Linear(8, 3).double()
    network = Network.of([linear, nn.Identity()], nn.functional.cross_entropy)
    network = replace(network, layers=(replace(network.layers[0], relaxing=4.0), network.layers[1]))
    rule = learning(0.0, tau=0.5)
    runtime = runtime_of(network, [(x, y)], mode="nonlocal", pairing="current", hold=9, rule=rule)
    list(runtime.present(x, y))
    expected = linear(x).detach() * (1 - (1 - 0.5 / 4.0) ** 9)
    assert (runtime.nodes["0"].carry.state[0] - expected).abs().max() < 1e-14


def test_a_time_constant_too_short_for_the_step_is_refused():
    with pytest.raises(
        NetworkError, match=r"'0' relaxes with T = 0.5, but a plain step of tau = 1.0 needs T > 0.5"
    ):
        runtime_of(relaxed(residual_net(2), 0.5), samples(1, (8,)))


def test_hold_out_samples_move_a_copy_of_the_state():
    batches = samples(6, (8,))
    runtime = runtime_of(
        relaxed(residual_net(3), 2.0), batches, mode="nonlocal", pairing="current", rule=learning(0.0)
    )
    undisturbed = runtime_of(
        relaxed(residual_net(3), 2.0), batches, mode="nonlocal", pairing="current", rule=learning(0.0)
    )
    for x, y in batches[:3]:
        list(runtime.present(x, y))
        list(undisturbed.present(x, y))
    list(runtime.present(*batches[5], learn=False))
    for x, y in batches[3:5]:
        list(runtime.present(x, y))
        list(undisturbed.present(x, y))
    for ours, theirs in zip(runtime.nodes.values(), undisturbed.nodes.values(), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.carry.state, theirs.carry.state, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("pairing", ["current", "stashed"])
@over_seeds(6)
def test_time_constant_tau_is_a_delay_on_random_graphs_with_skip_edges(seed, pairing):
    """Every layer relaxes but those that bear a loss, whose edge to it has no delay."""
    network, _ = random_network(seed)
    bearing = {spec.layer for spec in network.losses.values()}
    specs = [spec if spec.name in bearing else replace(spec, relaxing=1.0) for spec in network.layers]
    batches, rule = samples(30, (6,)), learning(0.05, weight_dissipation=0.5)
    leaky = runtime_of(
        replace(network, layers=tuple(specs)),
        batches,
        mode="nonlocal",
        pairing=pairing,
        warmup="zeros",
        rule=rule,
    )
    delayed = runtime_of(network, batches, mode="local", pairing=pairing, warmup="zeros", rule=rule)
    run_through(leaky, batches)
    run_through(delayed, batches)
    assert largest_difference(weights(leaky), weights(delayed)) < TOLERANCE
    assert leaky.seen_once()
