"""A tick that an error breaks off: no other follows, and every layer's weights are those of the tick that it tells.

The oracle is the same network on the same batches until there, weights compared to the bit.
"""

import pytest
import torch
from support.inline import learning, runtime_of, weights
from support.networks import mlp
from support.samples import samples
from torch import nn

from hamdist import Learner
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.spec import PLAIN, Execution
from hamdist.errors import RunError, StreamError

pytestmark = pytest.mark.usefixtures("one_fitter")


class Fuse(nn.Module):
    """Raises at the call for which it is set, in a derivative if it is set so."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.error = -1, ArithmeticError("out of numbers")

    def forward(self, x):
        self.left -= 1
        if self.left == 0:
            raise self.error
        return x


def fused_in(place: int) -> list[nn.Module]:
    layers = mlp(3)
    layers[place] = nn.Sequential(layers[place], Fuse())
    return layers


def fuse_of(runtime: InlineRuntime, place: int) -> Fuse:
    return runtime.nodes[str(place)].spec.layer.pure.module[1]


def weights_by_tick(layers, batches, ticks: int, **locality):
    """Of a run that nothing breaks off, before each tick."""
    runtime, seen = runtime_of(layers, batches, **locality), []
    for x, y in batches[:ticks]:
        seen.append(weights(runtime))
        list(runtime.present(x, y))
    return [*seen, weights(runtime)]


def require_told_weights(runtime, expected, tolerance: float = 0.0) -> None:
    """Those of one of the ticks that are told of a layer, the same for all of its tensors."""
    found = weights(runtime)
    for layer, (least, most) in runtime.reached.items():
        own = {key: value for key, value in found.items() if key.partition(".")[0] == layer}
        off = [
            max((value - expected[tick][key]).abs().max().item() for key, value in own.items())
            for tick in range(least, most + 1)
        ]
        assert min(off) <= tolerance, (layer, least, most, off)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("call", [9, 10])
@pytest.mark.parametrize("mode", ["local", "nonlocal"])
def test_every_layer_has_the_weights_of_the_tick_that_is_told(mode, call, place):
    """A local layer is called in either half of a tick, so that the fuse of an odd or even call is in either."""
    batches = samples(16, (8,))
    runtime = runtime_of(fused_in(place), batches, mode=mode)
    fuse_of(runtime, place).left = call
    with pytest.raises(RunError, match=rf"layer '{place}' failed at tick \d+: out of numbers"):
        runtime.present_all(batches)
    assert not runtime.whole
    assert set(runtime.reached.values()) <= {(runtime.tick,) * 2, (runtime.tick + 1,) * 2}
    require_told_weights(runtime, weights_by_tick(fused_in(place), batches, runtime.tick + 1, mode=mode))


def words(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of numbers below 12, each a word."""
    generator = torch.Generator().manual_seed(3)
    return [(torch.randint(12, (4,), generator=generator), y) for _, y in samples(count, (8,))]


def embedded() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Embedding(12, 8).double(), *mlp(2)]


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 4])
def test_of_ticks_that_run_as_one_some_may_be_in_the_weights(chunk):
    """They write in place. The word that the first layer does not have comes in the third of four; alone ticks are the
    same to rounding, 1e-12."""
    batches, good = words(40), words(40)
    batches[28][0][0] = 99
    execution = Execution(stacked=True, chunk=chunk)
    runtime = runtime_of(embedded(), batches, execution=execution)
    with pytest.raises(RunError, match="index out of range"):
        runtime.present_all(batches)
    assert runtime.tick % chunk == 0
    assert set(runtime.reached.values()) == {(runtime.tick, runtime.tick + chunk)}
    expected = weights_by_tick(embedded(), good, runtime.tick + chunk, execution=PLAIN)
    require_told_weights(runtime, expected, tolerance=1e-12)


def test_some_layers_may_have_learnt_once_more():
    """Local, the island of the loss comes first in a tick, then that of the first layer, which fails here."""
    batches = samples(16, (8,))
    runtime = runtime_of(fused_in(0), batches)
    runtime.present_all(batches[:12])
    fuse_of(runtime, 0).left = 1
    with pytest.raises(RunError, match="layer '0' failed at tick 12"):
        list(runtime.present(*batches[12]))
    assert runtime.reached == {"0": (12, 12), "1": (12, 12), "2": (13, 13)}


@pytest.mark.parametrize("error", [ArithmeticError("out of numbers"), KeyboardInterrupt()])
def test_nothing_follows_until_a_cut_is_restored(error):
    batches = samples(12, (8,))
    runtime, other = (runtime_of(fused_in(1), batches) for _ in range(2))
    for each in (runtime, other):
        each.present_all(batches[:6])
    cut = runtime.cut()
    fuse_of(runtime, 1).left, fuse_of(runtime, 1).error = 2, error
    with pytest.raises((RunError, KeyboardInterrupt)):
        runtime.present_all(batches[6:])
    for refused in (
        lambda: runtime.present_all(batches[6:]),
        lambda: list(runtime.present(*batches[6])),
        lambda: list(runtime.drain()),
        lambda: list(runtime.evaluate(batches[:1])),
        runtime.cut,
    ):
        with pytest.raises(RunError, match=r"^tick \d+ broke off and cannot be gone on from \("):
            refused()
    runtime.restore(cut)
    for each in (runtime, other):
        each.present_all(batches[6:])
        list(each.drain())
    assert all(torch.equal(value, weights(other)[key]) for key, value in weights(runtime).items())


def test_a_learner_refuses_to_go_on_and_can_still_be_read():
    batches = words(8)
    learner = Learner(embedded(), dtype=torch.float64, beta=learning().dynamics.rate.beta)
    learner.steps(batches)
    x, y = batches[0]
    with pytest.raises(RunError, match="layer '0' failed at tick 8: index out of range"):
        learner.steps([(torch.full_like(x, 99), y), (x, y), (x, y)])
    for refused in (lambda: learner.step(x, y), learner.drain, lambda: learner.evaluate([(x, y)])):
        with pytest.raises(RunError, match=r"broke off and cannot be gone on from \(layer '0' failed"):
            refused()
    assert learner.predict(x).shape == (4, 3)
    assert len(learner.state_dict()) == 5
    assert learner.metrics["loss"] > 0


@pytest.mark.parametrize(
    "settings", [{"locality": "nonlocal"}, {"locality": "local"}, {"stack": True}], ids=str
)
@pytest.mark.parametrize("wrong", [9, 3, -1])
def test_a_class_that_has_no_place_does_not_enter(settings, wrong):
    """As if it had never come, to the bit."""
    batches = samples(8, (8,))
    learner, other = (Learner(mlp(3), dtype=torch.float64, **settings) for _ in range(2))
    for each in (learner, other):
        each.steps(batches[:5])
    x, y = batches[5]
    bad = y.clone()
    bad[2] = wrong
    for refused in (
        lambda: learner.step(x, bad),
        lambda: learner.steps([(x, bad), (x, y)]),
        lambda: learner.evaluate([(x, bad)]),
    ):
        with pytest.raises(StreamError, match=rf"^class {wrong} came in sample 22, but layer '2' has "):
            refused()
    for each in (learner, other):
        each.steps(batches[5:])
        each.drain()
    assert learner.samples_seen_once
    assert learner.metrics == other.metrics
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in learner.state_dict().items())


def test_a_stream_that_raises_between_two_batches_breaks_nothing_off():
    batches = samples(8, (8,))
    learner, other = (Learner(mlp(3), dtype=torch.float64) for _ in range(2))

    def coming():
        yield from batches[:3]
        raise OSError("the sensor is gone")

    with pytest.raises(OSError, match="the sensor is gone"):
        learner.steps(coming())
    learner.steps(batches[3:])
    other.steps(batches)
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in learner.state_dict().items())
