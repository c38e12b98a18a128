"""E4: local + hold + settled gate. Costates and gradients are autograd's, and whole runs equal the non-local run.

Tolerance 1e-10 in float64: the same sums of products, in another order over the graph.
"""

import pytest
import torch
from support.comparing import largest_difference
from support.inline import learning, run_through, runtime_of, weights
from support.inside import channels
from support.networks import mlp, residual_net
from support.random_networks import random_network
from support.samples import samples
from support.seeds import over_seeds
from torch import nn

from hamdist.errors import NetworkError

TOLERANCE = 1e-10


def settled(layers, batches, hold, **kwargs):
    return runtime_of(layers, batches, pairing="current", gate="settled", hold=hold, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 6, 12])
def test_a_run_equals_the_nonlocal_run(depth):
    batches, hold = samples(30, (8,)), 2 * (depth - 1) + 1
    rule = learning(0.2, tau=0.5, weight_dissipation=0.4, nesterov=True, weight_decay=1e-3)
    local = settled(residual_net(depth), batches, hold, rule=rule)
    reference = runtime_of(residual_net(depth), batches, rule=rule, mode="nonlocal")
    ours, theirs = run_through(local, batches), run_through(reference, batches)
    assert largest_difference(weights(local), weights(reference)) < TOLERANCE
    assert [p.first for p in ours] == [p.first for p in theirs]
    assert max((a.output - b.output).abs().max() for a, b in zip(ours, theirs, strict=True)) < TOLERANCE
    assert local.seen_once()
    assert local.tick == 30 * hold


@pytest.mark.parametrize("depth", [2, 5, 12])
def test_costates_are_the_backpropagated_gradients(depth):
    """With β = 0 and a = 0, ω is the gradient, and what a layer receives is ∂loss/∂y."""
    ((x, y),) = samples(1, (8,))
    layers = mlp(depth)
    runtime = settled(mlp(depth), [(x, y)], 2 * depth - 1, rule=learning(0.0))
    run_through(runtime, [(x, y)])
    signals = [x]
    for layer in layers:
        signals.append(layer(signals[-1]))
        signals[-1].retain_grad()
    nn.functional.cross_entropy(signals[-1], y).backward()
    for name, node in runtime.nodes.items():
        for key, parameter in layers[int(name)].named_parameters():
            assert (node.carry.weight_costate[key] - parameter.grad).abs().max() < TOLERANCE
    for edge, channel in (
        (c.edge, c) for c in channels(runtime) if c.edge.source != "source" and c.edge.delay
    ):
        gradient = signals[int(edge.source) + 1].grad
        assert ([*channel.costates][-1].value - gradient).abs().max() < TOLERANCE


@pytest.mark.slow
@over_seeds(8)
def test_random_graphs_with_skip_edges(seed):
    network, hold = random_network(seed, mode="local")
    batches = samples(12, (6,))
    rule = learning(0.1, weight_dissipation=0.3)
    local = settled(network, batches, hold, rule=rule)
    reference = runtime_of(network, batches, rule=rule, mode="nonlocal")
    run_through(local, batches)
    run_through(reference, batches)
    assert largest_difference(weights(local), weights(reference)) < TOLERANCE
    assert local.seen_once()
    assert reference.seen_once()


def test_groups_settle_sooner():
    batches = samples(20, (8,))
    grouped = settled(residual_net(6), batches, 5, mode="groups", groups=[["0", "1"], ["2", "3"], ["4", "5"]])
    reference = runtime_of(residual_net(6), batches, mode="nonlocal")
    run_through(grouped, batches)
    run_through(reference, batches)
    assert largest_difference(weights(grouped), weights(reference)) < TOLERANCE


def test_a_hold_one_tick_too_short_is_refused_with_the_length_it_needs():
    with pytest.raises(NetworkError, match=r"hold of 10 ticks is too short .* needs hold: 11"):
        settled(residual_net(6), samples(1, (8,)), 10)


def test_the_shortest_hold_is_the_shortest():
    """One tick less, forced past the check, no longer gives the gradient: the bound is not slack."""
    import hamdist.network.locality as locality

    batches = samples(5, (8,))
    reference = runtime_of(residual_net(4), batches, mode="nonlocal")
    run_through(reference, batches)
    needed = locality.shortest_hold
    try:
        locality.shortest_hold = lambda graph: 1
        short = settled(residual_net(4), batches, 6)
    finally:
        locality.shortest_hold = needed
    run_through(short, batches)
    assert largest_difference(weights(short), weights(reference)) > 1e-4


def contracting_loop():
    """Two layers in a loop that contracts (spectral norms 0.4), and a head."""
    torch.manual_seed(3)
    layers = [nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2)]
    for layer in layers:
        nn.init.orthogonal_(layer[0].weight, 0.4)
    return [layer.double() for layer in (*layers, nn.Linear(6, 3))]


@pytest.mark.slow
def test_feedback_settles_to_the_gradient_at_the_equilibrium_of_a_contracting_loop():
    """The oracle iterates the loop to its fixed point in plain torch and differentiates through it."""
    batches = samples(6, (6,))
    layers = contracting_loop()
    plain = nn.ModuleList(contracting_loop())
    runtime = settled(
        layers,
        batches,
        120,
        edges=["0->1", "1->2", "1->0"],
        rule=learning(0.2, weight_dissipation=0.5),
        tolerance=1e-13,
    )
    run_through(runtime, batches)
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.2, momentum=0.5)
    for x, y in batches:
        h = torch.zeros_like(x)
        for _ in range(80):
            h = plain[1](plain[0](x + h))
        optimiser.zero_grad()
        nn.functional.cross_entropy(plain[2](h), y).backward()
        optimiser.step()
    theirs = {name: p.detach() for name, p in plain.named_parameters()}
    assert largest_difference(weights(runtime), theirs) < TOLERANCE
    assert runtime.seen_once()


def test_a_loop_that_has_not_settled_is_skipped_and_counted():
    batches = samples(3, (6,))
    runtime = settled(contracting_loop(), batches, 6, edges=["0->1", "1->2", "1->0"], tolerance=1e-13)
    before = weights(runtime)
    run_through(runtime, batches)
    assert largest_difference(weights(runtime), before) == 0
    assert not runtime.seen_once()
    assert all(node.ledger.skipped == 3 for node in runtime.nodes.values())
