"""E11: reversible pairing is a plain loop that inverts with today's weights; with β = 0 it is the stashed one.

Tolerance 1e-10 in float64: inverting loses a few bits a layer.
"""

import copy
from dataclasses import replace

import pytest
import torch
from support.comparing import largest_difference
from support.inline import learning, run_through, runtime_of, weights
from support.networks import half, reversible_net
from support.random_networks import random_network
from support.samples import samples
from support.seeds import over_seeds
from torch import nn

from hamdist.errors import NetworkError
from hamdist.network.graph import Edge
from hamdist.network.layer_spec import LayerSpec
from hamdist.physics.modules import Coupling

TOLERANCE = 1e-10


def inverting_loop(layers, batches, beta):
    """A fully-local chain; what returns is (the input used, ∂H/∂a), inverted with the weights of that tick."""
    N, T = len(layers), len(batches)
    stashes = [{} for _ in range(N)]
    returned = [{} for _ in range(N + 1)]  # returned[ℓ][n] = (output of ℓ − 1 to use, its costate)
    signal = [{} for _ in range(N + 1)]
    for tick in range(T + 2 * (N - 1)):
        for i, layer in enumerate(layers):
            n = tick - i
            if 0 <= n < T:
                stashes[i][n] = batches[n][0] if i == 0 else signal[i][n]
                signal[i + 1][n] = layer(stashes[i][n]).detach()
                if i == N - 1:
                    y = signal[N][n].clone().requires_grad_()
                    (q,) = torch.autograd.grad(nn.functional.cross_entropy(y, batches[n][1]), y)
                    returned[N][n] = (y.detach(), q)
        for i, layer in reversed(list(enumerate(layers))):
            n = tick - i - 2 * (N - 1 - i)
            if 0 <= n < T:
                output, q = returned[i + 1][n]
                with torch.no_grad():
                    x = layer.inverse(output) if isinstance(layer, Coupling) else stashes[i].pop(n)
                x = x.detach().requires_grad_()
                gradients = torch.autograd.grad(layer(x), [x, *layer.parameters()], q)
                returned[i][n] = (x.detach(), gradients[0])
                with torch.no_grad():
                    for p, g in zip(layer.parameters(), gradients[1:], strict=True):
                        p.sub_(beta * g)
    return {f"{i}.{n}": p.detach() for i, layer in enumerate(layers) for n, p in layer.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 6, 12])
def test_equals_a_loop_that_inverts_with_todays_weights(depth):
    batches = samples(50, (8,))
    runtime = runtime_of(reversible_net(depth), batches, pairing="reversible", rule=learning(0.05))
    run_through(runtime, batches)
    oracle = inverting_loop(reversible_net(depth), batches, 0.05)
    assert largest_difference(weights(runtime), oracle) < TOLERANCE
    assert runtime.seen_once()
    stashed = runtime_of(reversible_net(depth), batches, pairing="stashed", rule=learning(0.05))
    run_through(stashed, batches)
    assert largest_difference(weights(runtime), weights(stashed)) > 1e-6, (
        "weights moved between, so inputs differ"
    )


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 12])
def test_with_frozen_weights_it_is_the_stashed_pairing(depth):
    batches = samples(30, (8,))
    runs = [
        runtime_of(
            reversible_net(depth), batches, pairing=pairing, rule=learning(0.0, weight_dissipation=0.1)
        )
        for pairing in ("reversible", "stashed")
    ]
    for runtime in runs:
        run_through(runtime, batches)
    costates = [
        {f"{n}.{k}": w for n, node in runtime.nodes.items() for k, w in node.carry.weight_costate.items()}
        for runtime in runs
    ]
    assert largest_difference(*costates) < TOLERANCE
    assert max(w.abs().max() for w in costates[0].values()) > 1e-3


def test_a_reversible_layer_keeps_nothing_between_ticks():
    batches = samples(30, (8,))
    runtime = runtime_of(reversible_net(6), batches, pairing="reversible")
    for x, y in batches:
        list(runtime.present(x, y))
    assert [node.points_kept for node in runtime.nodes.values()] == [11, 0, 0, 0, 0, 1]


def test_a_network_without_an_invertible_layer_is_refused():
    with pytest.raises(
        NetworkError, match=r"none of 0, 1 has an inverse: use coupling layers .* or pairing: stashed"
    ):
        runtime_of([nn.Linear(8, 8), nn.Linear(8, 3)], samples(1, (8,)), pairing="reversible")


class Liar(nn.Module):
    def forward(self, x):
        return x * 2

    def inverse(self, y):
        return y


@pytest.mark.parametrize(
    ("layers", "edges", "message"),
    [
        ([Liar(), nn.Linear(8, 3)], None, "'0': its inverse does not give back its input"),
        ([nn.Linear(8, 7), Coupling(half(), half()), nn.Linear(7, 3)], None, r"layer '1' .*cannot take it"),
        (
            [Coupling(nn.Sequential(half(), nn.Dropout(0.5)), half()), nn.Linear(8, 3)],
            None,
            "'0' draws random numbers, which its inverse cannot repeat",
        ),
        (
            [nn.Linear(8, 8), Coupling(half(), half()), nn.Linear(8, 3)],
            ["0->1", "0->2", "1->2", "1->1"],
            "'1' must have one in-edge and one out-edge",
        ),
    ],
)
def test_what_cannot_be_inverted_is_refused_by_name(layers, edges, message):
    with pytest.raises(NetworkError, match=message):
        runtime_of([layer.double() for layer in layers], samples(1, (8,)), edges=edges, pairing="reversible")


@pytest.mark.slow
@over_seeds(6)
def test_with_frozen_weights_it_is_the_stashed_pairing_on_random_graphs(seed):
    """A chain of couplings in front of a random graph with skip edges, whose layers stash."""
    network, _ = random_network(seed)
    torch.manual_seed(seed)
    halves = [nn.Sequential(nn.Linear(3, 3), nn.Tanh()).double() for _ in range(6)]
    couplings = [
        LayerSpec(f"c{i}", lambda f=f, g=g: Coupling(copy.deepcopy(f), copy.deepcopy(g)))
        for i, (f, g) in enumerate(zip(halves[::2], halves[1::2], strict=True))
    ]
    edges = (Edge("c0", "c1"), Edge("c1", "c2"), Edge("c2", "n0"), *network.edges)
    whole = replace(network, layers=(*couplings, *network.layers), edges=edges)
    batches, costates = samples(20, (6,)), []
    for pairing in ("reversible", "stashed"):
        runtime = runtime_of(whole, batches, pairing=pairing, rule=learning(0.0, weight_dissipation=0.1))
        run_through(runtime, batches)
        costates.append(
            {f"{n}.{k}": w for n, node in runtime.nodes.items() for k, w in node.carry.weight_costate.items()}
        )
    assert largest_difference(*costates) < TOLERANCE
    assert min(w.abs().max() for w in costates[0].values()) > 1e-6
