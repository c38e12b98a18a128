"""`check` on configs as people write them: every mistake with its place, in words that say what to do.

`run` refuses the same configs with the same words before anything is on disk.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from hamdist import check, errors, run
from hamdist.errors import UserError
from hamdist.runs.check import findings

GOOD = """\
name: good
stream: {source: arrays, inputs: x.npy, targets: y.npy, batch_size: 4}
network:
  loss: cross_entropy
  layers:
    - {name: first, modules: [{type: Linear, in_features: 6, out_features: 8}, {type: Tanh}]}
    - {name: second, modules: [{type: Linear, in_features: 8, out_features: 8}, {type: Tanh}]}
    - {name: head, modules: [{type: Linear, in_features: 8, out_features: 3}]}
locality: {mode: local, pairing: stashed}
learning: {beta: 0.1, tau: 1.0}
"""


@pytest.fixture(autouse=True)
def folder(folder: Path) -> Path:
    """The current folder, with the arrays of `GOOD` in it."""
    numbers = np.random.default_rng(0)
    np.save("x.npy", numbers.normal(size=(20, 6)).astype(np.float32))
    np.save("y.npy", numbers.integers(0, 3, 20))
    return folder


def written(*changes: tuple[str, str]) -> str:
    """GOOD with texts replaced."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def problems(text: str, trust: bool = False) -> list[str]:
    """What check says of a config; run must refuse it too, with the first of these lines, and leave nothing behind."""
    Path("run.yaml").write_text(text, encoding="utf-8")
    found = check("run.yaml", trust=trust)
    if found:
        with pytest.raises(UserError) as refused:
            run("run.yaml", out="out")
        assert found[0] in str(refused.value).splitlines()
        assert not Path("out").exists()
    return found


def place(text: str, mark: str) -> str:
    """The place of `mark`, which stands once in the text: "run.yaml:2:7"."""
    assert text.count(mark) == 1, mark
    lines = text[: text.index(mark)].split("\n")
    return f"run.yaml:{len(lines)}:{len(lines[-1]) + 1}"


def places(text: str, *marks: tuple[str, str]) -> list[list[str]]:
    """Place and key of every problem, for marks (text at the place, key)."""
    return [[place(text, mark), key] for mark, key in marks]


def shown(found: list[str]) -> list[list[str]]:
    return [line.split(": ", 2)[:2] for line in found]


def test_a_good_config():
    assert problems(GOOD) == []


MISTAKES = {
    "an unknown key": (
        [("learning: {beta: 0.1, tau: 1.0}", "learning: {betta: 0.1, tau: 1.0}")],
        "betta",
        "learning.betta: unknown key; did you mean 'beta'?",
    ),
    "a wrong type": (
        [("batch_size: 4", "batch_size: four")],
        "batch_size",
        "stream.batch_size: expected a whole number, got 'four'",
    ),
    "tau of 0": (
        [("tau: 1.0", "tau: 0")],
        "tau",
        "learning.tau: must be greater than 0, got 0",
    ),
    "tau below 0": (
        [("tau: 1.0", "tau: -0.5")],
        "tau",
        "learning.tau: must be greater than 0, got -0.5",
    ),
    "a factor of no parameter": (
        [("tau: 1.0", 'tau: 1.0, beta_scale: {"*.wight": 0.5}')],
        '"*.wight"',
        "learning.beta_scale.*.wight: matches no parameter that learns",
    ),
    "a negative delay of an edge": (
        [("locality:", "  edges: [{from: first, to: second, delay: -1}, second->head]\nlocality:")],
        "delay: -1",
        "network.edges.0.delay: must be 0 or more, got -1",
    ),
    "a negative delay in the locality": (
        [("pairing: stashed", 'delays: {"0->1": -2}')],
        '"0->1"',
        "locality.delays.0->1: must be 0 or more, got -2",
    ),
    "a delay of an edge that is not there": (
        [("pairing: stashed", 'delays: {"first->secnd": 2}')],
        '"first->secnd"',
        "locality.delays.first->secnd: there is no edge 'first->secnd'; did you mean 'first->second'?",
    ),
    "an edge to a layer that is not there": (
        [("locality:", "  edges: [first->second, second->head, second->tail]\nlocality:")],
        "edges",
        "network.edges: edge second->tail: there is no layer 'tail'; the layers are first, second, head",
    ),
    "a cycle of total delay 0": (
        [
            ("mode: local", "mode: nonlocal"),
            (
                "locality:",
                "  edges: [first->second, second->head, {from: second, to: second, delay: 0}]\nlocality:",
            ),
        ],
        "edges",
        "network.edges: the cycle second -> second has a total delay of 0 ticks, "
        "so it cannot run: give one of its edges a delay",
    ),
    "a layer that leads nowhere": (
        [("locality:", "  edges: [first->head]\nlocality:")],
        "edges",
        "network.edges: layer 'second' leads to no loss: add an edge from it, or a loss on it",
    ),
    "a loss on a layer that is not there": (
        [("loss: cross_entropy", "loss: {type: cross_entropy, layer: tail}")],
        "network:",
        "network: layer 'tail' bears a loss but does not exist; the layers are first, second, head",
    ),
    "groups that overlap": (
        [("mode: local", "mode: groups, groups: [[0, 1], [1, 2]]")],
        "groups: [[",
        "locality.groups: layer 'second' is in more than one group: groups must not overlap",
    ),
    "groups that leave a layer out": (
        [("mode: local", "mode: groups, groups: [[first], [head]]")],
        "groups: [[",
        "locality.groups: layer 'second' is in no group: every layer needs one",
    ),
    "neighbours that do not fit": (
        [("in_features: 8, out_features: 3", "in_features: 9, out_features: 3")],
        "{name: head",
        "network.layers.2: 'second' gives [4, 8] float32, but layer 'head' (Linear, in_features=9) "
        "cannot take it: mat1 and mat2 shapes cannot be multiplied (4x8 and 9x3)",
    ),
    "a stream that does not fit the network": (
        [("in_features: 6", "in_features: 7")],
        "{name: first",
        "network.layers.0: 'source' gives [4, 6] float32, but layer 'first' (Linear, in_features=7) "
        "cannot take it: mat1 and mat2 shapes cannot be multiplied (4x6 and 7x8)",
    ),
    "a loss that does not fit the targets": (
        [("loss: cross_entropy", "loss: bce_with_logits")],
        "loss:",
        "network.loss: loss bce_with_logits does not fit: layer 'head' gives [4, 3] float32, "
        "the targets are [4] int64",
    ),
    "a stream without targets": (
        [("targets: y.npy, ", "")],
        "loss:",
        "network.loss: cross_entropy needs targets, but the stream has none",
    ),
    "settled with too short a hold": (
        [
            ("pairing: stashed", "pairing: current, gate: settled"),
            ("batch_size: 4", "batch_size: 4, hold: 4"),
        ],
        "hold",
        "stream.hold: a hold of 4 ticks is too short for the gate 'settled': "
        "this network needs hold: 5 or more",
    ),
    "settled with another pairing": (
        [("pairing: stashed", "pairing: stashed, gate: settled")],
        "gate",
        "locality.gate: 'settled' waits until today's activations have settled, so it needs "
        "pairing 'current', not 'stashed': set locality.pairing=current, or locality.gate=always",
    ),
    "reversible without a layer that is": (
        [("pairing: stashed", "pairing: reversible")],
        "pairing",
        "locality.pairing: 'reversible' needs layers that can be inverted, and none of first, second, "
        "head has an inverse: use coupling layers (or a module with an inverse method), or pairing: stashed",
    ),
    "a cycle that is no hold": (
        [
            ("mode: local, pairing: stashed", "mode: cyclic, pairing: current"),
            ("batch_size: 4", "batch_size: 4, hold: 2"),
        ],
        "hold: 2",
        "stream.hold: in mode 'cyclic' a sample is held for as many ticks as there are layers: set "
        "stream.hold=3, not 2",
    ),
    "a cycle that stashes": (
        [
            ("mode: local, pairing: stashed", "mode: cyclic, pairing: stashed"),
            ("batch_size: 4", "batch_size: 4, hold: 3"),
        ],
        "pairing: stashed",
        "locality.pairing: mode 'cyclic' pairs costates with what is there, not with what is stashed: set "
        "locality.pairing=current",
    ),
    "a missing file": (
        [("inputs: x.npy", "inputs: z.npy")],
        "inputs",
        "stream.inputs: there is no file z.npy (looked for from ",
    ),
    "a module that torch lacks": (
        [("out_features: 3}", "out_features: 3}, {type: Sofmax}")],
        "type: Sofmax",
        "network.layers.2.modules.1.type: neither torch.nn nor hamdist.physics.statespace has a module 'Sofmax'; did "
        "you mean 'Softmax'? "
        "(or write 'package.module:Class')",
    ),
    "an argument that a module lacks": (
        [("out_features: 3", "out_feature: 3")],
        "{type: Linear, in_features: 8, out_feature:",
        "network.layers.2.modules.0: Linear(in_features=8, out_feature=3): ",
    ),
}


@pytest.mark.parametrize(("changes", "mark", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_one_mistake_is_one_line_with_its_place(changes: list[tuple[str, str]], mark: str, message: str):
    text = written(*changes)
    (found,) = problems(text)
    assert found.startswith(f"{place(text, mark)}: {message}")


ARRAYS = "source: arrays, inputs: x.npy, targets: y.npy, batch_size: 4"


def test_an_empty_stream():
    Path("empty.csv").write_text("a,y\n")
    assert problems(written((ARRAYS, "source: csv, path: empty.csv, target: y"))) == [
        "run.yaml:2:1: stream: the stream is empty; expected one sample at least"
    ]


def test_a_first_sample_that_is_not_a_number():
    np.save("x.npy", np.full((20, 6), np.nan))
    assert problems(GOOD) == [
        "run.yaml:2:1: stream: sample 0: feature 0 of the input is nan; expected finite numbers"
    ]


def test_a_cell_that_is_not_a_number():
    Path("words.csv").write_text("a,y\n1,0\nmany,1\n")
    assert problems(written((ARRAYS, "source: csv, path: words.csv, target: y, batch_size: 2"))) == [
        "run.yaml:2:1: stream: words.csv:3:a: 'many' is not a number; expected a number"
    ]


@pytest.mark.parametrize(
    ("stream", "package", "message"),
    [
        (
            "source: river, dataset: Phishing",
            "river",
            "run.yaml:2:1: stream: the river stream needs an optional package: pip install 'hamdist[river]'",
        ),
        (
            "source: parquet, path: x.npy, target: y",
            "pyarrow",
            "run.yaml:2:1: stream: the parquet stream needs an optional package: pip install 'hamdist[parquet]'",
        ),
    ],
)
def test_a_missing_extra(stream: str, package: str, message: str, monkeypatch: pytest.MonkeyPatch):
    loaded = [name for name in sys.modules if name.split(".")[0] == package]
    for name in {package, *loaded}:
        monkeypatch.setitem(sys.modules, name, None)
    assert problems(written((ARRAYS, stream))) == [message]


def test_everything_wrong_at_once():
    """A mistake in one section hides none in the others: schema, files, locality and modules in one go."""
    text = written(
        ("inputs: x.npy", "inputs: z.npy"),
        ("{type: Linear, in_features: 8, out_features: 3}", "{type: Liner}"),
        ("mode: local", "mode: groups, groups: [[0, 1]]"),
        ("tau: 1.0", "tau: 0, bet: 1"),
    )
    text += "placement: {device: tpu}\nseeds: 1\n"
    assert shown(problems(text)) == places(
        text,
        ("tau", "learning.tau"),
        ("bet: 1", "learning.bet"),
        ("device", "placement.device"),
        ("seeds", "seeds"),
        ("inputs", "stream.inputs"),
        ("type: Liner}", "network.layers.2.modules.0.type"),
        ("groups: [[", "locality.groups"),
    )


def test_shapes_are_looked_at_though_the_schema_found_mistakes():
    text = written(("in_features: 6", "in_features: 7"), ("tau: 1.0", "tau: 0"), ("mode: local", "mode: far"))
    assert shown(problems(text)) == places(
        text, ("mode", "locality.mode"), ("tau", "learning.tau"), ("{name: first", "network.layers.0")
    )


def test_a_stream_is_looked_at_though_the_network_is_unsound():
    text = written(("inputs: x.npy", "inputs: z.npy"), ("loss: cross_entropy", "loss: crossentropy"))
    assert shown(problems(text)) == places(text, ("loss:", "network.loss"), ("inputs", "stream.inputs"))


def test_an_override_is_the_place_of_its_mistake():
    Path("run.yaml").write_text(GOOD)
    assert check("run.yaml", ["stream.inputs=z.npy", "learning.tau=0"])[0] == (
        "override learning.tau=0: learning.tau: must be greater than 0, got 0"
    )
    (found,) = check("run.yaml", ["stream.inputs=z.npy"])
    assert found.startswith("override stream.inputs=z.npy: stream.inputs: there is no file z.npy")


def test_a_mapping_has_keys_but_no_lines():
    assert check({"name": "x", "stream": {"source": "digits"}, "network": {"loss": "mse"}}) == [
        "network: a network needs layers, or a factory"
    ]


def test_standard_input_is_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", None)
    Path("run.yaml").write_text(GOOD.replace(ARRAYS, "source: stdin"))
    assert check("run.yaml") == []


@pytest.mark.parametrize(("asked", "noted"), [("20", False), ("21", True), ("5000", True), ("null", False)])
def test_a_file_with_fewer_rows_than_are_asked_for_is_a_note(asked: str, noted: bool):
    """The run finishes with those that there are."""
    table = np.column_stack([np.load("x.npy"), np.load("y.npy")])
    np.savetxt("table.csv", table, "%.9g", delimiter=",", header="a,b,c,d,e,f,kind", comments="")
    csv = f"source: csv, path: table.csv, target: kind, classes: [0, 1, 2], samples: {asked}"
    Path("run.yaml").write_text(written((ARRAYS, csv)))
    told = f"stream.samples: {asked} are asked for, and the source has 20: the run will finish with these"
    told = told.replace("5000", "5,000")
    assert findings("run.yaml") == ([], [told] if noted else [])
    assert check("run.yaml") == []


def test_sources_that_go_round_have_enough():
    Path("run.yaml").write_text(GOOD)
    assert findings("run.yaml", ["stream.samples=5000"]) == ([], [])


def test_a_factory_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(folder)
    Path("broken_stream.py").write_text("def make():\n    raise OSError('no sensor')\n")
    assert problems(written((ARRAYS, "source: iterable, factory: 'broken_stream:make'")), trust=True) == [
        "run.yaml:2:28: stream.factory: broken_stream:make failed: OSError('no sensor')"
    ]


def counted_searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words for which near ones are looked for, from now on."""
    searched: list[str] = []

    def search(word: str, *rest: object, **more: object) -> list[str]:
        searched.append(word)
        return []

    errors._nearest.cache_clear()
    monkeypatch.setattr(errors, "get_close_matches", search)
    return searched


UNKNOWN_KEYS = "".join(f"key{n}: 1\n" for n in range(1000))
UNKNOWN_TYPES = "".join(f"    - {{name: l{n}, modules: [{{type: Linaer{n}}}]}}\n" for n in range(1000))
STRANGE_TYPES = "".join(f"    - {{name: l{n}, modules: [{{type: 'torch.nn:Li{n}'}}]}}\n" for n in range(1000))


@pytest.mark.parametrize(
    "text",
    [
        GOOD + UNKNOWN_KEYS,
        GOOD.replace("  layers:\n", "  layers:\n" + UNKNOWN_TYPES),
        GOOD.replace("  layers:\n", "  layers:\n" + STRANGE_TYPES),
    ],
    ids=["keys", "types", "strangers"],
)
def test_of_very_many_mistakes_the_first_are_told_and_looked_into(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search for what was meant takes milliseconds: a thousand of them, seconds."""
    searched = counted_searches(monkeypatch)
    Path("run.yaml").write_text(text, encoding="utf-8")
    found = check("run.yaml")
    assert len(found) == errors.MOST_MISTAKES + 1
    assert found[-1].endswith(f"there are more mistakes than these {errors.MOST_MISTAKES}")
    assert len(searched) <= errors.MOST_MISTAKES + 2


def test_one_mistake_in_a_thousand_layers_is_looked_into_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = counted_searches(monkeypatch)
    many = "  layers:\n    - {name: many, repeat: 1000, modules: [{type: Linaer}]}\n"
    assert len(problems(GOOD.replace("  layers:\n", many))) == 1
    assert searched == ["Linaer"]


def test_what_will_probably_not_learn_is_noted():
    """A rate above what the delay bears, and depth that adds up unscaled; a config with notes alone runs."""
    deep = ["network.layers.1.repeat=20", "network.layers.1.residual=true"]
    fast = ["learning={beta: 0.1, rate: constant, dissipation: {weight: 0.1}}"]
    assert findings("digits", ["network.layers.1.repeat=62"]) == ([], [])
    mistakes, (depth,) = findings("digits", deep)
    assert mistakes == []
    assert depth.startswith("depth: 20 residual blocks add up as they are")
    mistakes, (rates,) = findings("digits", fast)
    assert mistakes == []
    assert rates.startswith("rates: beta·tau/dissipation.weight is 1 in embed, whose drives are 10")
    assert "at unit curvature that is stable up to 0.1, which 5 of 6 layers exceed" in rates
    assert len(findings("digits", [*deep, *fast]).notes) == 2
