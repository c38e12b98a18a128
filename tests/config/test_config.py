"""The config: defaults, short forms, YAML, and the places of mistakes."""

import ast
from pathlib import Path
from typing import Any

import pytest

import hamdist.config
from hamdist.config import examples, load, resolved_yaml
from hamdist.errors import ConfigError, NetworkError, Problem

LINEAR = {"type": "Linear", "in_features": 4, "out_features": 4}
MINIMAL: dict[str, Any] = {
    "name": "small",
    "stream": {"source": "digits"},
    "network": {
        "loss": "mse",
        "layers": [{"name": "a", "modules": [LINEAR]}, {"name": "b", "modules": [LINEAR]}],
    },
}


def problems(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(*args, **kwargs)
    return [str(problem) for problem in caught.value.problems]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults() -> None:
    loaded = load(MINIMAL).config
    assert (loaded.seed, loaded.metrics_every) == (0, 1000)
    assert (loaded.stream.batch_size, loaded.stream.samples, loaded.stream.hold) == (1, None, 1)
    assert (loaded.locality.mode, loaded.locality.pairing, loaded.locality.gate) == (
        "local",
        "stashed",
        "always",
    )
    assert (loaded.learning.step, loaded.learning.tau, loaded.learning.sign) == ("semi-implicit", 1.0, -1)
    assert loaded.learning.dissipation.weight is None
    assert (loaded.placement.runtime, loaded.placement.device, loaded.placement.threads) == (
        "inline",
        "auto",
        1,
    )
    assert (loaded.placement.actors, loaded.placement.address, loaded.placement.link) == (
        "auto",
        "auto",
        "auto",
    )
    assert (loaded.placement.ports, loaded.placement.requests) == (None, {})
    assert (loaded.placement.heartbeat_seconds, loaded.placement.progress_seconds) == (5.0, 300.0)
    assert (loaded.placement.spares, loaded.on_bad, loaded.checkpoint.keep, loaded.checkpoint.to) == (
        0,
        "stop",
        3,
        None,
    )
    assert (loaded.rollback.factor, loaded.rollback.times) == (0.5, 3)
    assert loaded.network.edges is None


@pytest.mark.parametrize(
    ("override", "written", "seconds"),
    [
        ("seed=0", False, 60.0),
        ("placement.runtime=ray", True, 60.0),
        ("checkpoint.every_ticks=8", True, None),
        ("checkpoint.every_seconds=8", True, 8.0),
        ("checkpoint={every_ticks: 8, every_seconds: 8}", True, 8.0),
        ("checkpoint.when=always", True, 60.0),
        ("checkpoint={when: never, every_ticks: 8}", False, None),
        ("on_bad=rollback", True, 60.0),
    ],
)
def test_when_checkpoints_are_written(override: str, written: bool, seconds: float | None) -> None:
    loaded = load(MINIMAL, [override]).config
    assert (loaded.checkpoints, loaded.checkpoint.seconds) == (written, seconds)


def test_short_forms_become_the_long_ones() -> None:
    edges = ["0->1", "a -> b", "a->loss", {"from": 1, "to": "a", "delay": 2, "shape": [4]}]
    loaded = load(MINIMAL, [f"network.edges={edges}", "locality.delays={0 -> 1: 3}"]).config
    assert loaded.network.edges is not None
    ends = [(edge.source, edge.target, edge.delay, edge.shape) for edge in loaded.network.edges]
    assert ends == [(0, 1, None, None), ("a", "b", None, None), ("a", "loss", None, None), (1, "a", 2, (4,))]
    assert loaded.locality.delays == {"0->1": 3}
    assert [(loss.type, loss.layer, loss.weight) for loss in loaded.network.loss] == [("mse", None, 1.0)]


def test_modules_keep_their_arguments() -> None:
    module = {"type": "Conv2d", "kernel_size": [3, 3], "bias": None}
    loaded = load(
        {**MINIMAL, "network": {"loss": "mse", "layers": [{"name": "a", "modules": [module]}]}}
    ).config
    assert loaded.network.layers is not None
    assert loaded.network.layers[0].modules is not None
    assert loaded.network.layers[0].modules[0].arguments == {"kernel_size": [3, 3], "bias": None}


def test_repeat_numbers_the_names() -> None:
    loaded = load("digits").config
    assert loaded.network.layers is not None
    names = [name for layer in loaded.network.layers for name in layer.names]
    assert names == ["embed", "block0", "block1", "block2", "block3", "head"]


@pytest.mark.parametrize(
    "signal", ["smoHfHa", {"sines": [[0.5, 1], [1, 2]]}, {"square": {"amplitude": 1, "frequency": 0.1}}]
)
def test_one_signal_is_a_list_of_one(signal: object) -> None:
    one = load({**MINIMAL, "stream": {"source": "signals", "signal": signal}}).config
    assert one == load({**MINIMAL, "stream": {"source": "signals", "signal": [signal]}}).config
    dumped = one.stream.model_dump()["signal"]
    assert dumped == (({"sines": ((0.5, 1.0), (1.0, 2.0))},) if "sines" in signal else (signal,))


def test_columns_may_be_numbers() -> None:
    stream = {"source": "csv", "path": Path("x.csv"), "target": 4, "features": [0, "b"], "header": False}
    loaded = load({**MINIMAL, "stream": stream}).config.stream.model_dump()
    assert (loaded["path"], loaded["target"], loaded["features"]) == ("x.csv", "4", ("0", "b"))


@pytest.mark.parametrize("name", examples.names())
def test_examples_survive_the_round_trip(name: str, tmp_path: Path) -> None:
    loaded = load(name)
    assert loaded.config.name == name
    assert load(written(tmp_path, resolved_yaml(loaded.config))).config == loaded.config


def test_everything_survives_the_round_trip(tmp_path: Path) -> None:
    coupling = {"f": [LINEAR], "g": [LINEAR, {"type": "Tanh"}]}
    full = {
        "name": "1e-3",
        "stream": {
            "source": "river",
            "dataset": "synth.Agrawal",
            "args": {"a": None, "b": "2020-01-01", "c": "on"},
        },
        "network": {
            "loss": [{"type": "mse", "layer": "r0"}, {"type": "my.losses:odd", "layer": 0, "weight": 0.5}],
            "layers": [
                {"name": "r", "repeat": 2, "coupling": coupling},
                {
                    "name": "c",
                    "relaxing": 2.0,
                    "join": "concat",
                    "modules": [{**LINEAR, "bias": None, "x": "1e5"}],
                },
            ],
            "edges": ["r0->r1", {"from": "r1", "to": "c", "delay": 4, "shape": [2, 2]}],
        },
        "locality": {"mode": "groups", "groups": [["r0", 1], [2]], "delays": {"0->1": 2}},
        "learning": {
            "beta": {"schedule": "step", "start": 1e-8, "factor": 0.5, "over": 10},
            "beta_scale": {"r*.weight": 0.5},
            "adaptive": {"type": "adamw"},
        },
        "placement": {
            "runtime": "ray",
            "actors": [["r0", 1], [2]],
            "requests": {
                0: {"cpus": 2, "gpus": 0.5, "device": "cuda:1"},
                "r*": {"resources": {"camera": 1}, "labels": {"zone": "1e3"}},
            },
            "address": "[::1]:6379",
            "link": "torch",
            "ports": [5000, 6000],
            "heartbeat_seconds": 1,
        },
    }
    loaded = load(full).config
    assert load(written(tmp_path, resolved_yaml(loaded))).config == loaded


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("auto", "auto"),
        ("per-layer", "per-layer"),
        ("3", 3),
        ("1e1", 10),
        ("[[a], [1]]", (("a",), (1,))),
    ],
)
def test_actors(text: str, value: object) -> None:
    assert load(MINIMAL, [f"placement.actors={text}"]).config.placement.actors == value


@pytest.mark.parametrize(
    "address", ["auto", "local", "head:6379", "10.0.0.1:6379", "gpu-1.lab_net:1", "[fe80::1]:9"]
)
def test_addresses(address: str) -> None:
    assert load({**MINIMAL, "placement": {"address": address}}).config.placement.address == address


def test_requests_go_by_name_pattern_or_index() -> None:
    """An index may be a number, or text, as it is in an override."""
    placement = {"actors": "per-layer", "requests": {0: {"cpus": 1}, "b*": {}}}
    requests = load(
        {**MINIMAL, "placement": placement}, ["placement.requests.1.gpus=0"]
    ).config.placement.requests
    assert {key: (request.cpus, request.gpus) for key, request in requests.items()} == {
        "0": (1.0, None),
        "b*": (None, None),
        "1": (None, 0.0),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1e3),
        ("+1.5e2", 150.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("7", 7.0),
        ("0x1F", 31.0),
    ],
)
def test_yaml_numbers(text: str, value: float, tmp_path: Path) -> None:
    path = written(tmp_path, f"{resolved_yaml(load(MINIMAL).config)}".replace("beta: 0.1", f"beta: {text}"))
    assert load(path).config.learning.beta == value


def test_a_whole_number_may_be_written_as_a_float() -> None:
    assert load(MINIMAL, ["stream.samples=6.4e4"]).config.stream.samples == 64000


MISTAKEN = """\
name: many
seed: -1
stream: {source: digits, holdd: 3}
network:
  loss: mse
  layers:
    - name: a
      modules:
        - {type: Linear, in_features: 3}
        - {tipe: Tanh}
locality:
  mode: locall
  delays: {"0->1": -1}
learning: {tau: 0, nesterov: true, step: explicit}
"""


def test_all_mistakes_at_once_with_their_places(tmp_path: Path) -> None:
    path = written(tmp_path, MISTAKEN)
    assert problems(path, ["learning.beta=x"]) == [
        f"{path}:2:1: seed: must be 0 or more, got -1",
        f"{path}:3:26: stream.holdd: unknown key; did you mean 'hold'?",
        f"{path}:10:11: network.layers.0.modules.1.type: missing",
        f"{path}:12:3: locality.mode: 'locall' is not accepted; did you mean 'local'?",
        f"{path}:13:12: locality.delays.0->1: must be 0 or more, got -1",
        f"{path}:14:12: learning.tau: must be greater than 0, got 0",
        "override learning.beta=x: learning.beta: expected a number, got 'x'",
        f"{path}:14:20: learning.nesterov: nesterov needs step semi-implicit or exponential, not explicit",
    ]


def test_problems_keep_their_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, MISTAKEN))
    assert caught.value.problems[0].key == "seed"


def test_later_errors_are_located_too(tmp_path: Path) -> None:
    path = written(tmp_path, resolved_yaml(load(MINIMAL).config))
    loaded = load(path, ["locality.delays={0->1: 2}"])
    error = NetworkError(
        Problem("network.layers.1.modules.0.type", "there is no such module"),
        Problem("locality.delays.0->1", "too long"),
        Problem("", "nothing to point at"),
    )
    lines = path.read_text().splitlines()
    start = lines.index("  - name: b")
    line = next(number for number, text in enumerate(lines[start:], start + 1) if "{type: Linear" in text)
    module, delay, nothing = loaded.explain(error)
    assert module == f"{path}:{line}:8: network.layers.1.modules.0.type: there is no such module"
    assert delay == "override locality.delays={0->1: 2}: locality.delays.0->1: too long"
    assert nothing == "nothing to point at"


def test_locate_goes_up_to_what_was_written(tmp_path: Path) -> None:
    path = written(tmp_path, "name: x\nstream: {source: digits}\nnetwork: {loss: mse, factory: 'a:b'}\n")
    loaded = load(path, ["learning.dissipation.state=0.5"])
    assert loaded.locate("network.loss.0.type") == f"{path}:3:11"
    assert loaded.locate("network.layers.3.name") == f"{path}:3:1"
    assert loaded.locate("locality.mode") == f"{path}:1:1"
    assert loaded.locate("learning.dissipation.weight") == "override learning.dissipation.state=0.5"
    assert load(MINIMAL).locate("network.loss") == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", ":2:1: name: the key is there already"),
        ("stream:\n  args: [{a: 1, a: 2}]\n", ":2:17: stream.args.0.a: the key is there already"),
        ("name: [a\nseed: 0\n", ":2:5: not YAML: expected ',' or ']', but got ':'"),
        ("name: a\n\tseed: 0\n", ":2:1: not YAML: found character '\\t' that cannot start any token"),
        ("- a\n", ":1:1: expected a mapping with the keys name, seed, stream, network, locality, learning"),
        ("", ":1:1: expected a mapping with the keys name"),
        ("a: 1\n---\nb: 2\n", ":2:1: a second document begins here; a config is one"),
        ("a: &a [*a]\n", ":1:8: '&a' holds itself"),
    ],
)
def test_files_that_are_no_config(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}{message}")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"name: \xff\xfe")
    assert problems(path) == [f"{path}: is not text in UTF-8"]


def test_merged_mappings_are_no_duplicates(tmp_path: Path) -> None:
    layers = "[&a {name: a, residual: true, modules: [{type: Tanh}]}, {<<: *a, name: b}]"
    text = f"name: x\nstream: {{source: digits}}\nnetwork: {{loss: mse, layers: {layers}}}\n"
    path = written(tmp_path, text)
    loaded = load(path, ["network.layers.0.modules.0.type=ReLU"])
    assert loaded.config.network.layers is not None
    types = [layer.modules[0].type for layer in loaded.config.network.layers if layer.modules]
    assert types == ["ReLU", "Tanh"]
    assert loaded.locate("network.layers.1.name") == f"{path}:3:{text.splitlines()[2].rindex('name') + 1}"


def test_a_name_that_is_nothing() -> None:
    listed = (
        "(examples: digits, digits-cluster, digits-gpus, digits-groups, digits-nonlocal, digits-settled, "
        "image-segments, phishing, shuttle,"
    )
    (problem,) = problems("digit")
    start = "digit: there is no such file, and no example of that name"
    assert problem.startswith(f"{start}; did you mean 'digits'? {listed}")
    (problem,) = problems("nowhere/run.yaml")
    assert problem.startswith(
        f"nowhere/run.yaml: there is no such file, and no example of that name {listed}"
    )


def test_a_file_comes_before_an_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits").write_text(resolved_yaml(load(MINIMAL).config))
    monkeypatch.chdir(tmp_path)
    assert load("digits").config.name == "small"


def test_config_stands_alone() -> None:
    """It imports nothing of the package but the errors, and nothing heavy."""
    allowed = ("hamdist.config", "hamdist.errors", "hamdist.naming")
    for path in Path(hamdist.config.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                )
                assert all(name.startswith(allowed) for name in names if name.split(".")[0] == "hamdist"), (
                    path
                )
                assert not any(name.split(".")[0] in ("torch", "ray") for name in names), path
