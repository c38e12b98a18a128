"""Stashed, as graphs: a sample's gradient with the weights that it met on its way, applied D ticks later.

A plain loop in the test keeps those weights itself and asks autograd once for the gradient through the whole chain.
Tolerance 1e-12 in float64.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from support.comparing import largest_difference, same_bits
from support.dropout import Reseeded, dropping
from support.inline import learning, run_through, runtime_of, weights
from support.networks import cnn, relaxed, residual_net
from support.random_networks import random_network
from support.samples import samples
from support.seeds import over_seeds
from torch import Tensor, nn
from torch.func import functional_call

from hamdist import Learner
from hamdist.errors import NetworkError
from hamdist.physics.rates import Adam, RMSprop

TOLERANCE = 1e-12


def graph_of(layers, batches, **kwargs):
    return runtime_of(layers, batches, **({"stash": "graph"} | kwargs))


def descent(rate: float = 0.1, **options) -> Callable:
    return lambda parameters: torch.optim.SGD(parameters, rate, **options)


PLAIN = descent()


def delayed_by_versions(layers, batches, optimiser=PLAIN, delays=None, late=0):
    """Every layer evaluates sample n with a copy of its weights of tick n + A, all on one tape; the gradient by these
    copies moves today's weights D ticks later, and `late` updates after that."""
    N, T = len(layers), len(batches)
    delays = delays or [1] * (N - 1)
    arrival = [sum(delays[:i]) for i in range(N)]
    optimisers = [optimiser(layer.parameters()) for layer in layers]
    waiting = [[None] * late for _ in layers]
    signals, copies, gradients = {}, {}, {}
    for tick in range(T + 2 * arrival[-1]):
        for i, layer in enumerate(layers):
            n = tick - arrival[i]
            if 0 <= n < T:
                copies[n, i] = {k: p.detach().clone().requires_grad_() for k, p in layer.named_parameters()}
                signals[n] = functional_call(layer, copies[n, i], batches[n][0] if i == 0 else signals[n])
        if 0 <= (n := tick - arrival[-1]) < T:
            met = [copy for i in range(N) for copy in copies[n, i].values()]
            found = torch.autograd.grad(nn.functional.cross_entropy(signals.pop(n), batches[n][1]), met)
            rest = iter(found)
            gradients |= {(n, i): [next(rest) for _ in copies.pop((n, i))] for i in range(N)}
        for i, layer in enumerate(layers):
            n = tick - 2 * arrival[-1] + arrival[i]
            if 0 <= n < T:
                waiting[i].append(gradients.pop((n, i)))
                if (drive := waiting[i].pop(0)) is not None:
                    for p, gradient in zip(layer.parameters(), drive, strict=True):
                        p.grad = gradient
                    optimisers[i].step()
    return {f"{i}.{k}": p.detach() for i, layer in enumerate(layers) for k, p in layer.named_parameters()}


RULES = {
    "plain": ({}, PLAIN, 0),
    "momentum": (
        {"weight_dissipation": 0.5, "weight_decay": 1e-3},
        descent(momentum=0.5, weight_decay=1e-3),
        0,
    ),
    "nesterov": ({"weight_dissipation": 0.5, "nesterov": True}, descent(momentum=0.5, nesterov=True), 0),
    "explicit": ({"step": "explicit"}, descent(), 1),
    "adam": ({"beta": 0.01, "adaptive": Adam()}, lambda p: torch.optim.Adam(p, 0.01), 0),
    "adamw": (
        {"beta": 0.01, "adaptive": Adam(decoupled=True), "weight_decay": 0.1},
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
        0,
    ),
    "rmsprop": ({"beta": 0.01, "adaptive": RMSprop()}, lambda p: torch.optim.RMSprop(p, 0.01), 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_chain(rule):
    motion, optimiser, late = RULES[rule]
    batches = samples(40, (8,))
    runtime = graph_of(residual_net(4), batches, rule=learning(**motion))
    run_through(runtime, batches)
    oracle = delayed_by_versions(residual_net(4), batches, optimiser, late=late)
    assert largest_difference(weights(runtime), oracle) < TOLERANCE
    assert runtime.seen_once()


def test_delays_of_any_length_and_layers_without_one():
    batches = samples(40, (8,))
    runtime = graph_of(residual_net(4), batches, delays={"0->1": 3, "2->3": 0})
    run_through(runtime, batches)
    oracle = delayed_by_versions(residual_net(4), batches, delays=[3, 1, 0])
    assert largest_difference(weights(runtime), oracle) < TOLERANCE


def test_convolutions_and_batch_statistics():
    batches, layers = samples(30, (1, 8, 8)), cnn()
    runtime = graph_of(cnn(), batches)
    run_through(runtime, batches)
    assert largest_difference(weights(runtime), delayed_by_versions(layers, batches)) < TOLERANCE
    buffers = dict(layers[0].named_buffers())
    assert largest_difference(runtime.cells["0"].carry.buffers, buffers) < TOLERANCE


def test_dropout():
    batches = samples(40, (8,))
    runtime = graph_of(dropping(4), batches)
    run_through(runtime, batches)
    oracle = delayed_by_versions([Reseeded(layer, str(i), 4) for i, layer in enumerate(dropping(4))], batches)
    oracle = {key.replace(".inner.", "."): value for key, value in oracle.items()}
    assert largest_difference(weights(runtime), oracle) < TOLERANCE


# Layers with a state


def relaxing_loop(layers, batches, constant, beta):
    """ξ' = ξ + (φ(a) − ξ)/T and p' = p + q − p/T at the present; ∂⟨p, φ⟩/T at the input, with the weights, of two
    ticks ago. q, and the head's own gradient, are those of the sample that ξ shows: the one before."""
    leaky, head = layers
    xi = p = torch.zeros(4, 8, dtype=torch.float64)
    graphs: list[Tensor | None] = [None, None]
    copies: list[list[Tensor]] = [[], []]
    for tick in range(len(batches) + 2):
        shown = xi.clone().requires_grad_()
        if tick < len(batches):
            copy = {k: w.detach().clone().requires_grad_() for k, w in leaky.named_parameters()}
            phi = functional_call(leaky, copy, batches[tick][0])
            xi = xi + (phi.detach() - xi) / constant
        graphs.append(phi if tick < len(batches) else None)
        copies.append(list(copy.values()))
        then, met, old = graphs.pop(0), copies.pop(0), p
        if 1 <= tick <= len(batches):
            loss = nn.functional.cross_entropy(head(shown), batches[tick - 1][1])
            q, *parts = torch.autograd.grad(loss, [shown, *head.parameters()])
            p = old + q - old / constant
            moved(head, parts, beta)
        if then is not None:
            moved(leaky, torch.autograd.grad(then, met, old / constant), beta)
    return {f"{i}.{k}": w.detach() for i, layer in enumerate(layers) for k, w in layer.named_parameters()}


def moved(layer, gradients, beta):
    with torch.no_grad():
        for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
            parameter.sub_(beta * gradient)


@pytest.mark.parametrize("constant", [1.0, 2.5])
def test_a_relaxing_layer(constant):
    batches = samples(30, (8,))
    runtime = graph_of(relaxed(residual_net(2), constant), batches, mode="nonlocal")
    run_through(runtime, batches)
    oracle = relaxing_loop(residual_net(2), batches, constant, 0.1)
    assert largest_difference(weights(runtime), oracle) < TOLERANCE
    assert runtime.seen_once()


def test_time_constant_tau_is_a_delay_of_one_tick():
    batches, rule = samples(30, (8,)), learning(0.05, weight_dissipation=0.5)
    leaky = graph_of(relaxed(residual_net(4), 1.0), batches, rule=rule, mode="nonlocal", warmup="zeros")
    delayed = graph_of(residual_net(4), batches, rule=rule, warmup="zeros")
    for runtime in (leaky, delayed):
        run_through(runtime, batches)
    assert largest_difference(weights(leaky), weights(delayed)) < TOLERANCE


# Beside the other form


def returned_by(runtime, batches) -> dict[str, list[Tensor]]:
    """Every costate that every layer returns, hold-out samples in between."""
    found: dict[str, list[Tensor]] = {name: [] for name in runtime.cells}
    for name, cell in runtime.cells.items():

        def reacting(tick, costates, react=cell.react, kept=found[name]):
            returned = react(tick, costates)
            kept += [costate.value.clone() for costate in returned if costate.value is not None]
            return returned

        cell.react = reacting
    for index, (x, y) in enumerate(batches):
        list(runtime.present(x, y, learn=index % 7 != 5))
    list(runtime.drain())
    return found


@pytest.mark.slow
@over_seeds(4)
def test_with_frozen_weights_the_costates_are_those_of_inputs(seed):
    """On random graphs with skip edges and several losses, some of whose layers relax; to the last bit."""
    network, _ = random_network(seed)
    specs = [replace(spec, relaxing=1.5) if i % 3 == 1 else spec for i, spec in enumerate(network.layers)]
    network, batches = replace(network, layers=tuple(specs)), samples(30, (6,))
    runs = {
        form: runtime_of(network, batches, stash=form, rule=learning(0.0)) for form in ("inputs", "graph")
    }
    told = {form: returned_by(runtime, batches) for form, runtime in runs.items()}
    assert sum(map(len, told["graph"].values())) > 20 * len(network.layers) / 2
    for name, costates in told["inputs"].items():
        assert len(costates) == len(told["graph"][name])
        assert all(torch.equal(a, b) for a, b in zip(costates, told["graph"][name], strict=True))
    assert same_bits(runs["inputs"], runs["graph"])


def test_moving_weights_tell_the_forms_apart():
    batches = samples(30, (8,))
    runs = [runtime_of(residual_net(4), batches, stash=form) for form in ("inputs", "graph")]
    for runtime in runs:
        run_through(runtime, batches)
    assert largest_difference(*map(weights, runs)) > 1e-4


def addresses(runtime) -> list[int]:
    """Where the weights lie."""
    return [p.data_ptr() for cell in runtime.cells.values() for p in cell.carry.parameters.values()]


def test_without_delays_nothing_is_kept_and_weights_move_in_place():
    batches = samples(20, (8,))
    runs = [runtime_of(residual_net(4), batches, mode="nonlocal", stash=form) for form in ("inputs", "graph")]
    before = list(map(addresses, runs))
    for runtime in runs:
        run_through(runtime, batches)
    assert same_bits(*runs)
    assert before == list(map(addresses, runs))


# What is kept


class Counting(nn.Module):
    """Counts its evaluations."""

    def __init__(self, count: list[int]) -> None:
        super().__init__()
        self.count = count

    def __deepcopy__(self, memo: dict) -> "Counting":
        return Counting(self.count)

    def forward(self, x: Tensor) -> Tensor:
        self.count[0] += 1
        return x


@pytest.mark.parametrize(("form", "evaluations"), [("inputs", 20), ("graph", 10)])
def test_a_layer_is_evaluated_once_a_tick(form, evaluations):
    count, batches = [0], samples(10, (8,))
    first = nn.Sequential(Counting(count), nn.Linear(8, 8)).double()
    runtime = runtime_of([first, *residual_net(2)], batches, stash=form)
    count[0] = 0
    run_through(runtime, batches)
    assert count == [evaluations]


def test_what_is_kept_is_bounded_by_the_depth_and_gone_after_the_drain():
    batches = samples(40, (8,))
    runtime = graph_of(residual_net(4), batches)
    for x, y in batches:
        list(runtime.present(x, y))
    assert [cell.points_kept for cell in runtime.cells.values()] == [6, 4, 2, 1]
    list(runtime.drain())
    assert [cell.points_kept for cell in runtime.cells.values()] == [0, 0, 0, 0]


# Who may ask for it


@pytest.mark.parametrize("pairing", ["current", "reversible"])
def test_other_pairings_have_no_graphs(pairing):
    with pytest.raises(
        NetworkError,
        match=rf"locality.stash: 'graph' is a form of pairing 'stashed', not of '{pairing}': set pairing: stashed",
    ):
        graph_of(residual_net(2), samples(1, (8,)), pairing=pairing)


def test_learner():
    batches = samples(20, (8,))
    learner = Learner(residual_net(3), dtype=torch.float64, beta=0.1, rate="constant", stash="graph")
    for x, y in batches:
        learner.step(x, y)
    learner.drain()
    oracle = delayed_by_versions(residual_net(3), batches)
    assert largest_difference(learner.state_dict(), oracle) < TOLERANCE
    assert learner.samples_seen_once
