"""Failures on the way name the layer, the tick and what to lower."""

import re

import pytest
import torch
from support.inline import learning, run_through, runtime_of, weights
from support.networks import mlp, residual_net
from support.samples import samples
from support.timelines import Together
from torch import nn

from hamdist.engine.divergence import unfinite
from hamdist.engine.spec import PLAIN, Execution
from hamdist.errors import DivergenceError, RunError, StreamError

pytestmark = pytest.mark.usefixtures("one_fitter")


def regression(count=200):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 8, generator=generator).double(), torch.ones(4, 3).double()) for _ in range(count)
    ]


def diverged(rule, **place):
    batches = regression()
    runtime = runtime_of(residual_net(4), batches, loss=nn.functional.mse_loss, rule=rule, **place)
    with pytest.raises(DivergenceError) as caught:
        run_through(runtime, batches)
    message = str(caught.value)
    found = re.match(
        r"diverged at tick (\d+): the loss of samples \d+ to \d+ is (inf|nan); layer '(.*)' is the furthest off, "
        r".* up to \S+: ",
        message,
    )
    assert found, message
    assert int(found[1]) == runtime.tick, "the tick that failed, not the next"
    assert found[3] in runtime.nodes
    return message


@pytest.mark.parametrize("place", [{}, {"mode": "nonlocal"}, {"pairing": "current"}])
def test_a_huge_beta_names_a_layer_the_tick_and_what_to_lower(place):
    assert ": lower learning.beta" in diverged(learning(1e6), **place)


def test_the_remedy_knows_of_delays_and_momentum():
    assert diverged(learning(1e6), mode="nonlocal").endswith("lower learning.beta")
    assert diverged(learning(1e6)).endswith("lower learning.beta, or set learning.rate: delay-scaled")
    assert diverged(learning(1e6, rate="delay-scaled")).endswith("lower learning.beta")
    momentum = diverged(learning(1e6, weight_dissipation=0.1), mode="nonlocal")
    assert momentum.endswith("lower learning.beta, or raise learning.dissipation.weight (less momentum)")


@pytest.mark.parametrize("place", [{"mode": "nonlocal"}, {}])
def test_the_layer_named_is_the_one_with_weights_that_are_none_and_not_those_it_took_along(place):
    batches = regression()
    runtime = runtime_of(residual_net(4), batches, loss=nn.functional.mse_loss, **place)
    for batch in batches[:20]:
        list(runtime.present(*batch))
    carry = runtime.nodes["2"].carry
    broken = {name: torch.full_like(weight, torch.nan) for name, weight in carry.parameters.items()}
    runtime.nodes["2"].carry = carry._replace(parameters=broken)
    message = (
        r"the loss mse_loss of samples \d+ to \d+ is nan at tick 2[0-9]: the weights of layer '2' are not finite, "
        "though no number had"
    )
    with pytest.raises(DivergenceError, match=f"^{message}"):
        run_through(runtime, batches[20:])


def weights_before_divergence(runtime, batches):
    for batch in batches:
        before = weights(runtime)
        try:
            list(runtime.present(*batch))
        except DivergenceError:
            return before
    raise AssertionError("it did not diverge")


@pytest.mark.parametrize("place", [{"mode": "nonlocal"}, {"pairing": "current"}, {"pairing": "stashed"}])
def test_no_layer_learns_in_a_tick_whose_loss_is_not_finite(place):
    batches = regression()
    runtime = runtime_of(residual_net(4), batches, loss=nn.functional.mse_loss, rule=learning(1e6), **place)
    before, after = weights_before_divergence(runtime, batches), weights(runtime)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_hold_out_samples_of_a_network_that_is_well_do_not_stop_it():
    batches = samples(3, (8,))
    runtime = runtime_of(mlp(2), batches)
    run_through(runtime, batches)
    assert len(list(runtime.evaluate(batches))) == 3


class Fuse(nn.Module):
    """Works `fuse` more times, then raises."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = 10**6

    def forward(self, x):
        self.fuse -= 1
        if self.fuse < 0:
            raise RuntimeError("the fuse has blown")
        return x


@pytest.mark.parametrize(
    ("calls", "tick"),
    [(3, 3), (5, 4)],
    ids=["in its evaluation", "in its recomputation"],
)
def test_a_module_that_raises_midway_is_named_with_the_tick(calls, tick):
    """In a chain of three the first layer's costate returns after 4 ticks, so its sixth call recomputes."""
    batches = samples(10, (8,))
    layers = [nn.Sequential(nn.Linear(8, 8), Fuse()).double(), *mlp(2)]
    runtime = runtime_of(layers, batches)
    runtime.nodes["0"].spec.layer.pure.module[1].fuse = calls
    with pytest.raises(RunError, match=rf"layer '0' failed at tick {tick}: the fuse has blown"):
        run_through(runtime, batches)


def test_a_target_that_the_loss_cannot_take_is_named_with_the_loss_and_the_tick():
    def picky(output, target):
        if target.max() == 7:
            raise ArithmeticError("seven is not for me")
        return nn.functional.cross_entropy(output, target)

    batches = samples(6, (8,))
    batches[3][1][0] = 7
    runtime = runtime_of(mlp(3), batches, mode="nonlocal", loss=picky)
    message = r"the loss picky, of .*, failed at tick 3: seven is not for me"
    with pytest.raises(RunError, match=message):
        run_through(runtime, batches)


# What was not a number first, though nothing grew


class Log(nn.Module):
    def forward(self, x):
        return torch.log(x)


@pytest.mark.parametrize("place", [{"mode": "nonlocal"}, {}])
def test_the_first_layer_whose_output_is_none_is_named(place):
    """log 0 = −∞ in the third of five layers; an identity after it is as bad, and is not the first."""
    torch.manual_seed(0)
    layers = [nn.Linear(8, 8), nn.ReLU(), Log(), nn.Identity(), nn.Linear(8, 3)]
    batches = [(x.abs(), y) for x, y in regression(20)]
    layers[0].weight.data = torch.eye(8)
    layers[0].bias.data.zero_()
    batches[9] = (torch.zeros(4, 8).double(), batches[9][1])
    rule = learning(0.0)
    runtime = runtime_of([m.double() for m in layers], batches, nn.functional.mse_loss, rule=rule, **place)
    message = (
        r"^the loss mse_loss of samples \d+ to \d+ is (nan|inf) at tick \d+: the output of layer '2' was not "
        "finite first, though "
    )
    with pytest.raises(DivergenceError, match=message) as caught:
        run_through(runtime, batches)
    assert "learning.beta" not in str(caught.value)


def over_nothing(output, target):
    """The mean over no rows."""
    return output[:0].mean()


def ignoring_0(output, target):
    return nn.functional.cross_entropy(output, target, ignore_index=0)


def no_number(loss, target):
    batches = [(torch.randn(4, 8).double(), target)]
    runtime = runtime_of([nn.Linear(8, 3).double()], batches, loss=loss, mode="nonlocal")
    with pytest.raises(DivergenceError) as caught:
        list(runtime.present(*batches[0]))
    return str(caught.value)


def test_a_sample_that_is_none_is_not_blamed_on_a_layer():
    batches = [(torch.full((4, 8), torch.inf).double(), torch.ones(4, 3).double())]
    runtime = runtime_of(mlp(3), batches, loss=nn.functional.mse_loss, mode="nonlocal")
    with pytest.raises(
        DivergenceError,
        match=r"^the loss mse_loss of samples 0 to 3 is nan at tick 0: a sample that entered is not",
    ):
        list(runtime.present(*batches[0]))


def test_a_loss_that_is_none_for_finite_numbers_says_so():
    told = no_number(over_nothing, torch.ones(4, 3).double())
    assert re.fullmatch(
        r"the loss over_nothing of samples 0 to 3 is nan at tick 0, of finite numbers, an output up to \S+ and "
        r"targets up to 1: it has "
        "no number for these, such as a logarithm of 0 or a mean over nothing",
        told,
    )
    told = no_number(nn.functional.mse_loss, torch.full((4, 3), 1e200, dtype=torch.float64))
    assert told.endswith("targets up to 1e+200: too large for the loss, so scale samples and targets down")


def test_targets_that_a_users_loss_ignores_all_are_named():
    told = no_number(ignoring_0, torch.zeros(4, dtype=torch.int64))
    assert told == (
        "the loss ignoring_0 of samples 0 to 3 is nan at tick 0, and the target of every row is the class 0: "
        "if the loss ignores it, write -100 instead"
    )


def test_a_derivative_that_is_none_is_not_taken_for_growth():
    """√(x²) at 0 has the value 0 and the slope ∞ · 0."""

    class Root(nn.Module):
        def forward(self, x):
            return torch.sqrt(x.square())

    layers = [nn.Linear(8, 8).double(), Root(), nn.Linear(8, 3).double()]
    for parameter in layers[0].parameters():
        parameter.data.zero_()
    batches = regression(5)
    runtime = runtime_of(layers, batches, nn.functional.mse_loss, mode="nonlocal")
    message = (
        "^the loss mse_loss of samples 4 to 7 is nan at tick 1: the weights of layer '0' are not finite, "
        "though no number had grown"
    )
    with pytest.raises(DivergenceError, match=message):
        run_through(runtime, batches)


# In fused ticks


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4])
def test_fused_ticks_name_the_first_whose_loss_is_not_finite(chunk):
    """A batch so large that it overflows, long after ticks began to run as one."""
    batches = regression(40)
    batches[26] = (batches[26][0] * 1e200, batches[26][1])
    told = []
    for execution in (PLAIN, Execution(stacked=True, chunk=chunk)):
        heard, loss = Together(), nn.functional.mse_loss
        runtime = runtime_of(residual_net(3), batches, loss=loss, execution=execution, timeline=heard)
        with pytest.raises(DivergenceError) as caught:
            run_in_chunks(runtime, batches)
        found = re.match(
            r"the loss mse_loss of samples \S+ to \S+ is (?:inf|nan) at tick (\d+)", str(caught.value)
        )
        assert found, str(caught.value)
        assert "learning.beta" not in str(caught.value)
        told.append(int(found[1]))
    assert heard.lengths(runtime.tick)
    assert told == [28, 28]  # two delays later than it entered


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4])
def test_a_class_beyond_the_outputs_does_not_enter_fused_ticks_either(chunk):
    """What came before it, alone ticks at the end, is learnt, and it goes on with what comes after, to the bit."""
    batches = samples(40, (8,))
    wrong = (batches[27][0], torch.full((4,), 7))
    execution, together = Execution(stacked=True, chunk=chunk), (Together(), Together())
    runtime, other = (runtime_of(mlp(3), batches, execution=execution, timeline=heard) for heard in together)
    message = r"class 7 came in sample 108, but layer '2' has 3 outputs: it needs 8"
    with pytest.raises(StreamError, match=message):
        runtime.present_all([*batches[:27], wrong, *batches[28:]])
    runtime.present_all(batches[28:])
    other.present_all(batches[:27])
    other.present_all(batches[28:])
    assert all(heard.lengths(runtime.tick) for heard in together)
    assert runtime.samples == other.samples
    assert all(torch.equal(value, weights(other)[key]) for key, value in weights(runtime).items())


def run_in_chunks(runtime, batches):
    runtime.present_all(batches)
    list(runtime.drain())


@pytest.mark.parametrize(
    ("way", "bad", "told"),
    [
        ("signals", torch.nan, "not all signals along edge 0->1 are numbers"),
        ("signals", -torch.inf, ""),  # a mask, perhaps
        ("costates", torch.nan, "not all costates along edge 0->1 are finite"),
        ("costates", torch.inf, "not all costates along edge 0->1 are finite"),
    ],
)
def test_what_is_under_way_may_spoil_a_cut(way, bad, told):
    """It would come up again after going back to it."""
    batches = regression()
    runtime = runtime_of(residual_net(4), batches, loss=nn.functional.mse_loss)
    for batch in batches[:20]:
        list(runtime.present(*batch))
    state = runtime.cut().partition
    assert unfinite(state) == ""
    (message,) = getattr(state, way)["0->1"]
    message.tensors[0].view(-1)[3] = bad
    assert unfinite(state) == told


def test_numbers_too_large_to_be_added_are_finite():
    batches = regression()
    runtime = runtime_of(residual_net(4), batches, loss=nn.functional.mse_loss)
    list(runtime.present(*batches[0]))
    state = runtime.cut().partition
    weight = next(iter(state.nodes["0"].carry.parameters.values()))
    weight.fill_(torch.finfo(weight.dtype).max / 2)
    assert not weight.sum().isfinite()
    assert unfinite(state) == ""
    weight.view(-1)[-1] = torch.inf
    assert unfinite(state) == "not all numbers of layer '0' are finite"
