"""E5: stashed, fully local, is learning with delayed gradients: a plain loop in the test simulates it directly.

Tolerance 1e-10 in float64.
"""

import math

import pytest
import torch
from support.comparing import largest_difference
from support.delayed_gradients import delayed_gradients
from support.inline import learning, run_through, runtime_of, weights
from support.networks import cnn, mlp, residual_net
from support.random_networks import random_network
from support.samples import samples
from support.seeds import over_seeds

from hamdist.errors import NetworkError
from hamdist.physics.rates import delay_scale, momentum_scale

TOLERANCE = 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 3, 6, 12])
@pytest.mark.parametrize("make", [mlp, residual_net])
def test_chain(make, depth):
    batches = samples(60, (8,))
    rule = learning(0.1, weight_dissipation=0.5, weight_decay=1e-3)
    runtime = runtime_of(make(depth), batches, rule=rule)
    run_through(runtime, batches)
    oracle = delayed_gradients(make(depth), batches, [0.1] * depth, 0.5, decay=1e-3)
    assert largest_difference(weights(runtime), oracle) < TOLERANCE
    assert runtime.seen_once()


def test_convolutions_and_batch_statistics():
    batches = samples(40, (1, 8, 8))
    runtime = runtime_of(cnn(), batches, rule=learning(0.1))
    run_through(runtime, batches)
    assert largest_difference(weights(runtime), delayed_gradients(cnn(), batches, [0.1] * 3, 0.0)) < TOLERANCE


def test_delays_beyond_one():
    batches = samples(50, (8,))
    runtime = runtime_of(residual_net(4), batches, delays={"0->1": 3, "2->3": 0})
    run_through(runtime, batches)
    oracle = delayed_gradients(residual_net(4), batches, [0.1] * 4, 0.0, delays=[3, 1, 0])
    assert largest_difference(weights(runtime), oracle) < TOLERANCE
    assert runtime.seen_once()


def test_groups_are_delays_between_them():
    batches = samples(50, (8,))
    runtime = runtime_of(residual_net(6), batches, mode="groups", groups=[["0", "1"], ["2", "3"], ["4", "5"]])
    run_through(runtime, batches)
    oracle = delayed_gradients(residual_net(6), batches, [0.1] * 6, 0.0, delays=[0, 1, 0, 1, 0])
    assert largest_difference(weights(runtime), oracle) < TOLERANCE


@pytest.mark.parametrize(("step", "late"), [("semi-implicit", 0), ("explicit", 1)])
def test_delay_scaled_rates(step, late):
    """Layer ℓ's β is multiplied by min(1, π/(2D+1)), D one more under the explicit step."""
    depth = 6
    batches = samples(60, (8,))
    runtime = runtime_of(residual_net(depth), batches, rule=learning(0.3, rate="auto", step=step))
    factors = [delay_scale(2 * (depth - 1 - i) + late) for i in range(depth)]
    assert factors[0] < 0.3
    assert [node.spec.dynamics.rate.delay_factor for node in runtime.nodes.values()] == factors
    if step == "semi-implicit":
        run_through(runtime, batches)
        oracle = delayed_gradients(residual_net(depth), batches, [0.3 * f for f in factors], 0.0)
        assert largest_difference(weights(runtime), oracle) < TOLERANCE


@pytest.mark.parametrize("step", ["semi-implicit", "exponential"])
@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0])
def test_scaled_rates_know_momentum(step, exponent):
    """β is multiplied by (π/(2D+1))ᵉ and by τη, so that βτ/η does not grow; the oracle has torch's momentum buffer."""
    depth, tau, eta = 4, 0.5, 0.4
    decay = math.exp(-tau * eta) if step == "exponential" else 1 - tau * eta
    drive = (1 - decay) / eta  # c of either step
    batches = samples(60, (8,))
    rule = learning(0.3, rate="delay-scaled", exponent=exponent, step=step, tau=tau, weight_dissipation=eta)
    runtime = runtime_of(residual_net(depth), batches, rule=rule)
    run_through(runtime, batches)
    late = [2 * (depth - 1 - i) for i in range(depth)]
    rates = [0.3 * tau * drive * tau * eta * min(1.0, math.pi / (2 * d + 1)) ** exponent for d in late]
    oracle = delayed_gradients(residual_net(depth), batches, rates, decay)
    assert largest_difference(weights(runtime), oracle) < TOLERANCE


def test_scaled_rates_know_dampening():
    """τη/(1 − d), and no more than 1: a drive that is dampened moves weights the less."""
    factors = [momentum_scale(1.0, 0.1, dampening) for dampening in (0.0, 0.5, 0.9, 0.95, 1.0)]
    assert factors == pytest.approx([0.1, 0.2, 1.0, 1.0, 1.0], rel=1e-12)


def test_without_delays_momentum_scales_nothing():
    """There the step is that of torch.optim.SGD, whatever the policy."""
    rule = learning(0.1, rate="auto", weight_dissipation=0.1)
    runtime = runtime_of(mlp(3), samples(1, (8,)), rule=rule, mode="nonlocal")
    assert {node.spec.dynamics.rate.factor("0.weight") for node in runtime.nodes.values()} == {1.0}


def test_delays_and_no_dissipation_are_refused():
    """A rate scaled by τη would be 0, and nothing would learn; `constant` takes it as it is."""
    with pytest.raises(NetworkError, match=r"learning\.dissipation\.weight: nothing dissipates"):
        runtime_of(mlp(3), samples(1, (8,)), rule=learning(0.1, rate="auto", weight_dissipation=0.0))
    runtime_of(mlp(3), samples(1, (8,)), rule=learning(0.1, rate="constant", weight_dissipation=0.0))


def test_what_is_stored_is_bounded_by_the_depth():
    batches = samples(40, (8,))
    runtime = runtime_of(mlp(4), batches)
    for x, y in batches:
        list(runtime.present(x, y))
    assert [node.points_kept for node in runtime.nodes.values()] == [7, 5, 3, 1]


def longest_ways(names, edges):
    """A of every layer by plain relaxation, each edge one tick."""
    arrival = dict.fromkeys(names, 0)
    for _ in names:
        for edge in edges:
            arrival[edge.target] = max(arrival[edge.target], arrival[edge.source] + 1)
    return arrival


def delayed_graph(network, batches, beta):
    """As `delayed_gradients`, for any graph: layer v evaluates sample n at tick n + A(v), and learns from it at
    tick n + 2 A(sink) − A(v), with the weights of that tick at the inputs it had."""
    names, edges = network.names, network.edges
    layers = {spec.name: spec.build() for spec in network.layers}
    joins = {spec.name: spec.join for spec in network.layers}
    losses = {spec.layer: spec for spec in network.losses.values()}
    arrival = longest_ways(names, edges)
    last = max(arrival[layer] for layer in losses)
    into = {name: [e.source for e in edges if e.target == name] for name in names}
    outputs, costates = {}, {name: {} for name in names}  # costates[v][n]: one tensor per in-edge

    def inputs_of(name, n):
        heard = [outputs[source, n] for source in into[name]] or [batches[n][0]]
        return [a.detach().clone().requires_grad_() for a in heard]

    def call(name, heard):
        joined = (
            torch.cat(heard, dim=1)
            if joins[name] == "concat" and len(heard) > 1
            else sum(heard[1:], heard[0])
        )
        return layers[name](joined)

    kept = {}
    for tick in range(len(batches) + 2 * last):
        for name in names:
            n = tick - arrival[name]
            if 0 <= n < len(batches):
                kept[name, n] = inputs_of(name, n)
                outputs[name, n] = call(name, kept[name, n]).detach()
        gradients = {}
        for name in reversed(names):
            n = tick - 2 * last + arrival[name]
            if 0 <= n < len(batches):
                q = torch.zeros_like(outputs[name, n])
                for target in names:
                    for index, source in enumerate(into[target]):
                        if source == name:
                            q = q + costates[target][n][index]
                if name in losses:
                    y = outputs[name, n].clone().requires_grad_()
                    loss = losses[name].weight * losses[name].function(y, batches[n][1])
                    q = q + torch.autograd.grad(loss, y)[0]
                heard = kept[name, n]
                parts = torch.autograd.grad(call(name, heard), [*heard, *layers[name].parameters()], q)
                costates[name][n] = parts[: len(heard)]
                gradients[name] = parts[len(heard) :]
        with torch.no_grad():
            for name, parts in gradients.items():
                for p, g in zip(layers[name].parameters(), parts, strict=True):
                    p.sub_(beta * g)
    return {f"{name}.{k}": p.detach() for name, layer in layers.items() for k, p in layer.named_parameters()}


@pytest.mark.slow
@over_seeds(8)
def test_random_graphs_with_skip_edges(seed):
    network, _ = random_network(seed)
    batches = samples(30, (6,))
    runtime = runtime_of(network, batches, rule=learning(0.1))
    run_through(runtime, batches)
    assert largest_difference(weights(runtime), delayed_graph(network, batches, 0.1)) < TOLERANCE
    assert runtime.seen_once()
