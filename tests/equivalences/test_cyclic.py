"""Mode `cyclic`: layer k of ν moves its state at ticks t with t mod ν = k, costates and weights at every tick.

The oracle is a plain loop of these equations with torch.autograd. Tolerance 1e-12 in float64: the same operations in
the same order, but for the order of rounding inside torch's optimiser.
"""

import pytest
import torch
from support.comparing import largest_difference
from support.inline import learning, run_through, runtime_of, weights
from support.matrix import LAYERS, batches, differences, network
from support.networks import cnn, mlp, relaxed, residual_net
from support.samples import samples
from torch import nn

from hamdist import Learner
from hamdist.engine.spec import Execution
from hamdist.errors import NetworkError
from hamdist.network.locality import Horizon
from hamdist.physics import statespace

pytestmark = pytest.mark.usefixtures("one_fitter")

TOLERANCE = 1e-12
CYCLIC = {"mode": "cyclic", "pairing": "current"}
RULES = {"tau": 0.5, "weight_dissipation": 0.4, "dampening": 0.3}


def cyclic_loop(layers, data, lr, momentum=0.0, dampening=0.0):
    """Of every layer k: what it hears, a, and what it said last, y; q, the costate that reaches it.

    At tick t: a_k = y_(k−1) of t − 1, and q_k = what layer k + 1 returned at t − 1; the loss judges y_(ν−1) of t.
    """
    ν = len(layers)
    optimisers = [torch.optim.SGD(layer.parameters(), lr, momentum, dampening) for layer in layers]
    said, heard, returned, predictions = [None] * ν, [None] * ν, [None] * (ν + 1), []
    for t in range(len(data) * ν + 2 * (ν - 1)):
        here, before, news = min(t // ν, len(data) - 1), list(said), [None] * (ν + 1)
        for k, layer in enumerate(layers):
            heard[k] = data[here][0] if k == 0 else before[k - 1] if before[k - 1] is not None else heard[k]
            if t % ν == k and t < len(data) * ν + k:
                said[k] = layer(heard[k]).detach()
        judged = (t - (ν - 1)) // ν
        if 0 <= judged < len(data):
            y = said[-1].requires_grad_()
            (returned[ν],) = torch.autograd.grad(nn.functional.cross_entropy(y, data[judged][1]), y)
            said[-1] = y.detach()
            if (t - (ν - 1)) % ν == 0:
                predictions.append(said[-1])
        else:
            returned[ν] = None
        for k, layer in enumerate(layers):
            q = returned[k + 1]
            if q is None:
                continue
            a = heard[k].clone().requires_grad_()
            news[k], *gradients = torch.autograd.grad(layer(a), [a, *layer.parameters()], q)
            for parameter, gradient in zip(layer.parameters(), gradients, strict=True):
                parameter.grad = gradient
            optimisers[k].step()
        returned = news
    return predictions


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("make", "shape"), [(residual_net, (8,)), (mlp, (8,)), (lambda: cnn()[1:], (4, 8, 8))]
)
def test_it_is_a_plain_loop_of_its_equations(make, shape, seed):
    data, layers = samples(12, shape, seed=seed), make()
    runtime = runtime_of(make(), data, rule=learning(0.3, **RULES), hold=len(layers), **CYCLIC)
    ours = run_through(runtime, data)
    theirs = cyclic_loop(layers, data, 0.3 * 0.25, 0.8, 0.3)
    expected = {
        f"{k}.{name}": p.detach() for k, layer in enumerate(layers) for name, p in layer.named_parameters()
    }
    assert largest_difference(weights(runtime), expected) < TOLERANCE
    assert [p.first for p in ours] == [4 * number for number in range(12)]
    assert max((a.output - b).abs().max() for a, b in zip(ours, theirs, strict=True)) < TOLERANCE
    assert not runtime.seen_once()


def test_a_prediction_leaves_in_the_step_of_its_sample():
    """At frozen weights it is that of the plain network; a local network of the same depth would be late."""
    data = samples(5, (8,))
    learner = Learner(
        residual_net(4), locality="cyclic", pairing="current", hold=4, beta=0.0, dtype=torch.float64
    )
    for number, (x, target) in enumerate(data):
        prediction = learner.step(x, target)
        assert prediction.first == 4 * number
        assert torch.equal(prediction.output, nn.Sequential(*residual_net(4))(x))


def test_a_state_stands_still_while_weights_move():
    """Otherwise than in mode local, where a held sample is evaluated anew with the weights of every tick."""
    data = samples(12, (8,))
    cyclic, local = (
        runtime_of(residual_net(3), data, rule=learning(0.5), hold=3, mode=mode, pairing="current")
        for mode in ("cyclic", "local")
    )
    for runtime in (cyclic, local):
        run_through(runtime, data)
    assert largest_difference(weights(cyclic), weights(local)) > 1e-3


@pytest.mark.parametrize(("actors", "links"), [("2", "threads"), ("per-layer", "shared")])
def test_over_actors_it_has_the_same_bits(actors, links):
    """Layers learn from each sample several times, and so say of themselves that they did not from each once."""
    shares = {"2": [LAYERS[:2], LAYERS[2:]], "per-layer": [[name] for name in LAYERS]}
    found = differences(network(), CYCLIC | {"hold": 5}, shares[actors], links, batches(12))
    assert sorted(found) == sorted(LAYERS)


def test_stacks_say_that_it_goes_node_by_node():
    data = samples(3, (8,))
    runtime = runtime_of(residual_net(3), data, hold=3, execution=Execution(stacked=True), **CYCLIC)
    run_through(runtime, data)
    assert runtime.execution["node_by_node"] == "mode cyclic moves the state of one layer a tick"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"pairing": "stashed"}, "locality.pairing: mode 'cyclic' pairs costates with what is there"),
        ({"pairing": "reversible"}, "locality.pairing: mode 'cyclic' pairs costates with what is there"),
        ({"gate": "settled"}, "locality.gate: in mode 'cyclic' weights move at every tick"),
        ({"warmup": "zeros"}, "locality.warmup: in mode 'cyclic' a layer's first turn comes"),
        (
            {"hold": 1},
            "stream.hold: in mode 'cyclic' a sample is held for as many ticks as there are layers: set",
        ),
        ({"hold": 4}, "set stream.hold=3, not 4"),
        ({"delays": {"0->1": 2}}, "locality.mode: 'cyclic' moves the layers of a chain in turn"),
        ({"delays": {"source->0": 1}}, "locality.mode: 'cyclic' moves the layers of a chain in turn"),
        ({"horizon": Horizon(3)}, "locality.time: 'backward'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(place, message):
    with pytest.raises(NetworkError) as caught:
        runtime_of(residual_net(3), samples(1, (8,)), **({"hold": 3} | CYCLIC | place))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("layers", "edges", "message"),
    [
        (
            lambda: residual_net(3),
            ["0->1", "1->2", "0->2"],
            "locality.mode: 'cyclic' moves the layers of a chain",
        ),
        (
            lambda: residual_net(3),
            ["0->1", "1->2", "1->0"],
            "locality.mode: 'cyclic' moves the layers of a chain",
        ),
        (
            lambda: relaxed(residual_net(3), 1.0),
            None,
            "locality.mode: in mode 'cyclic' a layer's output is its state",
        ),
        (
            lambda: [statespace.CSSM(8, 6, 5), nn.Linear(5, 8), nn.Linear(8, 3)],
            None,
            "locality.mode: layer '0' has a memory, which moves at every tick, not once in a hold",
        ),
    ],
)
def test_networks_that_do_not_fit_are_refused_by_name(layers, edges, message):
    with pytest.raises(NetworkError) as caught:
        runtime_of(layers(), samples(1, (8,)), edges=edges, hold=3, **CYCLIC)
    assert message in str(caught.value)
