"""Exported weights in plain PyTorch: strict loading, and the outputs that the learner itself gives.

Tolerance 1e-12 in float64: the same module computes, once called functionally and once as it is.
"""

from collections import OrderedDict
from typing import Any

import pytest
import torch
from support.samples import samples
from torch import Tensor, nn

from hamdist import LayerSpec, Learner, Network, Residual, export, load_model, plain_model, run
from hamdist.config import load
from hamdist.errors import NetworkError, UserError
from hamdist.runs.assembly import network_of

pytestmark = pytest.mark.usefixtures("folder")

TOLERANCE = 1e-12


def exported(config: Any, *overrides: str) -> dict[str, Tensor]:
    """The state_dict of a short run, by way of a file."""
    run(config, [*overrides, "placement.runtime=inline"], out="out")
    count = export("out", "model.pt")
    state = torch.load("model.pt", weights_only=True)
    assert count == len(state)
    return state


def test_digits_load_into_a_sequential_written_by_hand():
    def block() -> nn.Module:
        return Residual(nn.Sequential(nn.Linear(64, 64), nn.Tanh()))

    state = exported("digits", "stream.samples=320")
    model = nn.Sequential(
        OrderedDict(
            embed=nn.Sequential(nn.Linear(64, 64), nn.Tanh()),
            **{f"block{i}": block() for i in range(4)},
            head=nn.Sequential(nn.Linear(64, 10)),
        )
    )
    assert list(dict.fromkeys(key.split(".")[0] for key in state)) == [
        name for name, _ in model.named_children()
    ]
    model.load_state_dict(state, strict=True)
    x = torch.randn(5, 64)
    for layer in model[:-1]:
        x = layer(x)
    assert torch.equal(model[-1](x), nn.functional.linear(x, state["head.0.weight"], state["head.0.bias"]))


def test_a_finished_run_loads_as_the_plain_model_with_its_weights():
    state = exported("digits", "stream.samples=320")
    model = load_model("out")
    assert not model.training
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in state)


CONV = {
    "name": "conv",
    "stream": {"source": "digits", "flat": False, "samples": 160, "batch_size": 16},
    "network": {
        "dtype": "float64",
        "loss": "cross_entropy",
        "layers": [
            {
                "name": "conv",
                "modules": [
                    {"type": "Conv2d", "in_channels": 1, "out_channels": 4, "kernel_size": 3, "stride": 2},
                    {"type": "BatchNorm2d", "num_features": 4},
                    {"type": "ReLU"},
                ],
            },
            {"name": "head", "modules": [{"type": "Flatten"}, {"type": "LazyLinear", "out_features": 10}]},
        ],
    },
}


def test_batch_norm_keeps_its_statistics():
    """The exported model, in evaluation mode, does on the hold-out what the run said of itself."""
    state = exported(CONV)
    assert state["conv.1.num_batches_tracked"] == 10
    loaded = load("out/config.yaml").config
    model = plain_model(network_of(loaded.network, loaded.seed), loaded.seed, torch.float64)
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    model(images)  # a lazy layer learns its shape
    model.load_state_dict(state, strict=True)
    normed = nn.functional.batch_norm(
        nn.functional.conv2d(images, state["conv.0.weight"], state["conv.0.bias"], stride=2),
        state["conv.1.running_mean"],
        state["conv.1.running_var"],
        state["conv.1.weight"],
        state["conv.1.bias"],
    )
    head = nn.functional.linear(normed.relu().flatten(1), state["head.1.weight"], state["head.1.bias"])
    assert (model.eval()(images) - head).abs().max() < TOLERANCE


def test_a_skip_graph_loads_into_its_plain_model():
    network = {
        "dtype": "float64",
        "loss": "cross_entropy",
        "layers": [
            {
                "name": "a",
                "modules": [{"type": "Linear", "in_features": 64, "out_features": 8}, {"type": "Tanh"}],
            },
            {
                "name": "b",
                "modules": [{"type": "Linear", "in_features": 8, "out_features": 8}, {"type": "Tanh"}],
            },
            {
                "name": "c",
                "join": "concat",
                "modules": [{"type": "Linear", "in_features": 16, "out_features": 10}],
            },
        ],
        "edges": ["a->b", "b->c", "a->c"],
    }
    config = {
        "name": "skip",
        "stream": {"source": "digits", "samples": 320, "batch_size": 16},
        "network": network,
    }
    state = exported(config)
    model = plain_model(network_of(load("out/config.yaml").config.network, 0), dtype=torch.float64)
    model.load_state_dict(state, strict=True)
    x = torch.randn(5, 64, dtype=torch.float64)
    a = nn.functional.linear(x, state["a.0.weight"], state["a.0.bias"]).tanh()
    b = nn.functional.linear(a, state["b.0.weight"], state["b.0.bias"]).tanh()
    c = nn.functional.linear(torch.cat([b, a], 1), state["c.0.weight"], state["c.0.bias"])
    assert (model(x) - c).abs().max() < TOLERANCE


class Tied(nn.Module):
    """One matrix on the way in and, transposed, on the way out."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out_of = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.out_of.weight = self.into.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out_of(self.into(x).tanh())


BUILDERS: dict[str, dict[str, Any]] = {
    "chain": {"a": lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh()), "b": lambda: nn.Linear(6, 3)},
    "norm and dropout": {
        "a": lambda: nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.3)),
        "b": lambda: nn.Linear(6, 3),
    },
    "tied": {"a": Tied, "b": lambda: nn.Linear(6, 3)},
}


@pytest.mark.parametrize("builders", BUILDERS.values(), ids=list(BUILDERS))
@pytest.mark.parametrize("edges", [None, ["a->b"]])
def test_the_plain_model_predicts_what_the_learner_predicts(builders: dict[str, Any], edges: Any):
    learner = Learner(builders, edges=edges, dtype=torch.float64)
    for x, y in samples(6, (6,)):
        learner.step(x, y)
    learner.drain()
    model = plain_model(learner.network, seed=7, dtype=torch.float64)
    model.load_state_dict(learner.state_dict(), strict=True)
    x = torch.randn(5, 6, dtype=torch.float64)
    assert (model.eval()(x) - learner.predict(x)).abs().max() < TOLERANCE


def test_a_relaxing_layer_is_exported_at_its_equilibrium():
    specs = [
        LayerSpec("leak", lambda: nn.Linear(6, 6), relaxing=3.0),
        LayerSpec("head", lambda: nn.Linear(6, 3)),
    ]
    learner = Learner(specs, dtype=torch.float64)
    for x, y in samples(6, (6,)):
        learner.step(x, y)
    model = plain_model(learner.network, dtype=torch.float64)
    model.load_state_dict(learner.state_dict(), strict=True)
    x = torch.randn(5, 6, dtype=torch.float64)
    assert (model(x) - learner.predict(x)).abs().max() < TOLERANCE


def test_tied_weights_survive_the_files(monkeypatch: pytest.MonkeyPatch):
    network = {
        "loss": "cross_entropy",
        "layers": [
            {"name": "a", "modules": [{"type": f"{__name__}:Tied"}]},
            {"name": "b", "modules": [{"type": "Linear", "in_features": 6, "out_features": 3}]},
        ],
    }
    signal = {"source": "iterable", "factory": f"{__name__}:six_numbers"}
    state = exported({"name": "tied", "stream": signal, "network": network})
    assert torch.equal(state["a.0.into.weight"], state["a.0.out_of.weight"])
    model = nn.ModuleDict({"a": nn.Sequential(Tied()), "b": nn.Sequential(nn.Linear(6, 3))})
    model.load_state_dict(state, strict=True)


def six_numbers() -> list[tuple[list[float], int]]:
    return [([0.1 * i * k for i in range(6)], k % 3) for k in range(10)]


def test_a_network_from_a_factory_is_exported_too():
    network = {"loss": "cross_entropy", "factory": f"{__name__}:layers"}
    signal = {"source": "iterable", "factory": f"{__name__}:six_numbers"}
    state = exported({"name": "made", "stream": signal, "network": network})
    nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).load_state_dict(state, strict=True)


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))


def test_a_network_with_feedback_has_no_plain_model():
    network = Network.of([nn.Linear(6, 6), nn.Linear(6, 3)], nn.functional.cross_entropy, ["0->1", "0->0"])
    with pytest.raises(NetworkError) as caught:
        plain_model(network)
    assert str(caught.value) == (
        "a network with feedback (0->0) has no plain model: its output depends on the past"
    )


def test_a_directory_without_a_run():
    with pytest.raises(UserError) as caught:
        export("nothing", "model.pt")
    assert str(caught.value) == (
        "nothing holds no weights: expected nothing/weights/<layer>.safetensors of a finished run"
    )


def test_a_file_that_cannot_be_written():
    exported("digits", "stream.samples=16")
    with pytest.raises(UserError, match=r"^nowhere/model\.pt cannot be written: "):
        export("out", "nowhere/model.pt")
