"""The midpoint rule between layers: inverted, differentiated and learnt with, against plain loops and autograd.

Tolerance 1e-10 in float64: inverting loses a few bits a layer; 1e-12 where nothing is inverted.
"""

import gc
import math

import pytest
import torch
from support.comparing import largest_difference
from support.inline import learning, run_through, runtime_of, weights
from support.matrix import LAYERS, WIDTH, batches, differences
from support.networks import network_of
from support.plain_steps import sgd
from support.samples import samples
from torch import Tensor, nn

import hamdist
from hamdist.config.network_schema import NetworkConfig
from hamdist.engine.spec import STACKED
from hamdist.errors import NetworkError
from hamdist.network.plain import plain_model
from hamdist.physics.midpoint import LatestOfTwo, Midpoint, midpoint
from hamdist.planning.build_plan import plan_of
from hamdist.runs.assembly import network_of as configured

TOLERANCE = 1e-10


def blocks(count: int, width: int = 8) -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Sequential(nn.Linear(width, width), nn.Tanh()).double() for _ in range(count)]


def chain(count: int) -> list[nn.Module]:
    """A layer before, so many steps, and one after."""
    found = blocks(count)
    return [nn.Linear(8, 8).double(), *midpoint(found, nn.Linear(8, 3).double())]


def plainly(layers: list[nn.Module], x: Tensor) -> Tensor:
    """The rule as a loop over two signals."""
    first, *steps, (_, head) = layers
    before, here = None, first(x)
    for step in steps:
        f = step.body(here)
        before, here = here, here + f if before is None else before + 2 * f
    return head(here)


@pytest.mark.parametrize("count", [1, 2, 12])
def test_it_is_the_rule_and_can_be_inverted(count):
    layers, x = chain(count), torch.randn(4, 8, dtype=torch.float64)
    assert torch.equal(nn.Sequential(*layers)(x), plainly(layers, x))
    entered = here = layers[0](x)
    for step in layers[1:-1]:
        here = step(here)
    for step in reversed(layers[1:-1]):
        here = step.inverse(here)
    assert (here - entered).abs().max() < TOLERANCE


@pytest.mark.parametrize("mode", ["local", "nonlocal"])
@pytest.mark.parametrize("count", [2, 12])
def test_gradients_are_autograds_at_frozen_weights(count, mode):
    """With β = 0 and a = 0, ω is the gradient."""
    ((x, target),) = samples(1, (8,))
    runtime = runtime_of(chain(count), [(x, target)], rule=learning(0.0), mode=mode, pairing="reversible")
    run_through(runtime, [(x, target)])
    layers = chain(count)
    nn.functional.cross_entropy(plainly(layers, x), target).backward()
    gradients = {f"{k}.{n}": p.grad for k, layer in enumerate(layers) for n, p in layer.named_parameters()}
    ours = {f"{k}.{n}": w for k, node in runtime.nodes.items() for n, w in node.carry.weight_costate.items()}
    assert largest_difference(ours, gradients) < TOLERANCE
    kept = {name: node.points_kept for name, node in runtime.nodes.items()}
    assert all(kept[str(k)] == 0 for k in range(1, count + 1)), "steps store nothing"


def test_a_nonlocal_run_is_sgd_though_nothing_is_stored():
    data = samples(40, (8,))
    runtime = runtime_of(chain(6), data, rule=learning(0.1), mode="nonlocal", pairing="reversible")
    run_through(runtime, data)
    assert largest_difference(weights(runtime), sgd(nn.Sequential(*chain(6)), data)) < TOLERANCE


def test_inverted_is_stashed_at_frozen_weights_and_drifts_from_it_at_others():
    data = samples(30, (8,))

    def costates(pairing, beta):
        rule = learning(beta, weight_dissipation=0.1)
        runtime = runtime_of(chain(4), data, rule=rule, pairing=pairing)
        run_through(runtime, data)
        return {
            f"{k}.{n}": w for k, node in runtime.nodes.items() for n, w in node.carry.weight_costate.items()
        }

    assert largest_difference(costates("reversible", 0.0), costates("stashed", 0.0)) < TOLERANCE
    assert largest_difference(costates("reversible", 0.01), costates("stashed", 0.01)) > 1e-6


def test_steps_compute_as_a_stack():
    data = samples(30, (8,))
    stacked, plain = (
        runtime_of(chain(5), data, rule=learning(0.05), pairing="reversible", **execution)
        for execution in ({"execution": STACKED}, {})
    )
    for runtime in (stacked, plain):
        run_through(runtime, data)
    assert largest_difference(weights(stacked), weights(plain)) < TOLERANCE
    assert "not_stacked" not in stacked.execution
    assert "node_by_node" not in stacked.execution


@pytest.mark.parametrize("links", ["threads", "shared"])
def test_over_actors_it_has_the_same_bits(links):
    def block() -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh())

    net = network_of(
        {
            "embed": lambda: nn.Linear(9, WIDTH),
            "a": lambda: Midpoint(block(), starts=True),
            "b": lambda: Midpoint(block()),
            "c": lambda: Midpoint(block()),
            "head": lambda: nn.Sequential(LatestOfTwo(), nn.Linear(WIDTH, 3)),
        }
    )
    actors = [["embed", "c"], ["a", "head"], ["b"]]
    assert differences(net, {"pairing": "reversible"}, actors, links, batches(12)) == []
    assert tuple(net.names) == LAYERS


def test_the_parasitic_mode_grows_as_plan_says():
    """f = −λ y: a perturbation between the two signals grows by λ + √(1 + λ²) a step."""
    rate = 0.2
    body = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(body.weight, -rate)
    step, here = Midpoint(body), torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    norms = []
    for _ in range(60):
        here = step(here)
        norms.append(here.norm().item())
    assert norms[-1] / norms[-2] == pytest.approx(rate + math.sqrt(1 + rate**2), rel=1e-6)
    built = runtime_of(chain(3), samples(1, (8,))).program
    (told,) = [note for note in plan_of(built).notes if note.startswith("midpoint")]
    assert told.startswith("midpoint: 1, 2 and 3 carry two signals; where f is dissipative")


LINEAR = {"type": "Linear", "in_features": 8, "out_features": 8}
STEPS = {"name": "block", "repeat": 3, "midpoint": True, "modules": [LINEAR, {"type": "Tanh"}]}
HEAD = {"name": "head", "modules": [{"type": "Linear", "in_features": 8, "out_features": 3}]}
EMBED = {"name": "embed", "modules": [LINEAR]}


def config(*layers, loss="cross_entropy", **more):
    return NetworkConfig.model_validate({"dtype": "float64", "loss": loss, "layers": layers, **more})


def test_in_a_config_a_row_of_steps_is_a_chain():
    model = plain_model(configured(config(EMBED, STEPS, HEAD), seed=0), 0, torch.float64)
    x = torch.randn(4, 8, dtype=torch.float64)
    first, *steps, head = model
    assert [step.starts for step in steps] == [True, False, False]
    layers = [first, *steps, (head[0], head[1])]
    assert torch.equal(model(x), plainly(layers, x))


@pytest.mark.parametrize(
    ("layers", "more", "message"),
    [
        ((EMBED, STEPS), {}, "network.loss.0: layer 'block2' is a midpoint step, which gives two signals"),
        (
            (EMBED, STEPS, HEAD),
            {"edges": ["0->1", "1->2", "2->3", "3->4", "0->4"]},
            "network.edges: layer 'head' hears 'block2', a midpoint step, which gives two signals, and something else",
        ),
        (
            (EMBED, STEPS, HEAD),
            {"edges": ["0->1", "1->2", "2->3", "3->4", {"from": 3, "to": 1, "delay": 1}]},
            "network.edges: layer 'block0' hears 'block2', a midpoint step",
        ),
    ],
)
def test_two_signals_that_meet_what_takes_one_are_refused_by_name(layers, more, message):
    with pytest.raises(NetworkError) as caught:
        configured(config(*layers, **more), seed=0)
    assert message in str(caught.value)


def test_a_memory_inside_a_step_is_refused_by_name():
    layers = midpoint([nn.GRUCell(8, 8)], nn.Linear(8, 3))
    with pytest.raises(NetworkError, match="layer '0' has a memory inside a midpoint step"):
        hamdist.Learner(layers, "mse").step(torch.zeros(1, 8), torch.zeros(1, 3))


@pytest.mark.slow
@pytest.mark.parametrize(("pairing", "grows"), [("reversible", False), ("stashed", True)])
def test_between_the_halves_of_a_nonlocal_tick_no_step_holds_its_activations(pairing, grows):
    """Counted where the loss is, when every layer has said what it says: a step hears a signal of shape [5, 26]."""
    counted: list[int] = []
    counting = False

    def loss(output: Tensor, target: Tensor) -> Tensor:
        if counting:
            alive = [t for t in gc.get_objects() if type(t) is Tensor and t.shape == (5, 26)]
            counted.append(len({t.data_ptr() for t in alive}))
        return nn.functional.cross_entropy(output, target)

    def most(count: int) -> int:
        nonlocal counting
        data = samples(1, (13,), batch=5)
        layers = midpoint(blocks(count, 13), nn.Linear(13, 3).double())
        runtime = runtime_of(layers, data, loss, mode="nonlocal", pairing=pairing)
        gc.collect()
        counting = True
        run_through(runtime, data)
        counting = False
        return counted[-1]

    assert (most(12) > most(4)) is grows
