"""Where an actor's time goes: what is recorded, what is kept of it, how it is told, and that silence keeps nothing."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.actors import Ensemble
from support.inline import learning
from support.matrix import batches
from support.networks import network_of
from support.ray_layers import SURVEY
from torch import nn

from hamdist import run
from hamdist.engine import profiler
from hamdist.engine.profiler import LAST_SPANS, LAST_TICKS, SILENT, Recording, epoch, timeline_of
from hamdist.errors import RunError
from hamdist.network.locality import Locality
from hamdist.report.profile import KINDS, Profile, Span
from hamdist.report.tables import summary_table
from hamdist.report.trace import trace_events

BATCHES = 7
LINEAR = {"in_features": 64, "out_features": 64}
SMALL: dict[str, Any] = {
    "name": "small",
    "stream": {"source": "digits", "batch_size": 16, "samples": 16 * BATCHES},
    "network": {
        "loss": "cross_entropy",
        "layers": [
            {"name": "embed", "modules": [{"type": "Linear", **LINEAR}, {"type": "Tanh"}]},
            {"name": "head", "modules": [{"type": "Linear", "in_features": 64, "out_features": 10}]},
        ],
    },
    "placement": {"runtime": "inline"},
}


def counted(profile: Profile) -> Counter[tuple[str, str]]:
    """How many spans there are, by kind and place."""
    return Counter((span.kind, span.where) for span in profile.spans)


def check_sound(profile: Profile) -> None:
    """Spans follow one another, with the ticks of the loop in order, and are no longer than the loop."""
    assert all(one.start + one.duration <= next.start for one, next in pairwise(profile.spans))
    assert all(one.tick <= next.tick for one, next in pairwise(profile.spans))
    assert {span.tick for span in profile.spans} == set(range(profile.ticks))
    durations = Counter(dict.fromkeys(KINDS, 0))
    for span in profile.spans:
        durations[span.kind] += span.duration
    assert durations == profile.spent  # of a loop so short that all spans were kept
    assert 0 < sum(durations.values()) <= profile.nanoseconds


# What is recorded


def test_sums_are_of_all_the_loop_and_spans_of_its_last_ticks():
    recording = Recording()
    ticks = LAST_TICKS + 300
    for tick in range(ticks):
        recording.record("compute", 100 * tick, 100 * tick + 7, tick, "a")
        recording.record("wait", 100 * tick + 10, 100 * tick + 13, tick, "a->b")
    profile = recording.profile(ticks)
    assert {kind: spent for kind, spent in profile.spent.items() if spent} == {
        "compute": 7 * ticks,
        "wait": 3 * ticks,
    }
    assert [span.tick for span in profile.spans if span.kind == "wait"] == list(range(300, ticks))
    assert len(profile.spans) == 2 * LAST_TICKS


def test_ticks_of_many_spans_are_kept_as_far_as_a_recording_goes():
    recording = Recording()
    for number in range(LAST_SPANS + 10):
        recording.record("send", number, number + 1, 0)
    profile = recording.profile(1)
    assert profile.spent["send"] == LAST_SPANS + 10
    assert len(profile.spans) == LAST_SPANS
    assert profile.spans[-1].start - profile.spans[0].start == LAST_SPANS - 1


def test_spans_have_the_time_and_the_tick_in_which_they_were_entered(monkeypatch: pytest.MonkeyPatch):
    clock = iter(range(1000, 2000, 10))
    monkeypatch.setattr(profiler, "perf_counter_ns", lambda: next(clock))
    monkeypatch.setattr(profiler, "epoch", lambda: 5_000_000)
    recording = Recording()
    integrating = recording.span("integrate", "b")
    recording.start()  # at 1010
    recording.begin(3)
    with integrating:  # 1020 to 1030
        pass
    recording.begin(4)
    with pytest.raises(ZeroDivisionError), integrating:  # 1040 to 1050
        _ = 1 // 0
    profile = recording.profile(5)  # at 1060
    assert profile.spans == (
        Span("integrate", 3, 5_001_020, 10, "b"),
        Span("integrate", 4, 5_001_040, 10, "b"),
    )
    assert (profile.nanoseconds, profile.spent["integrate"]) == (50, 20)


def test_the_clocks_are_compared_where_nothing_came_between(monkeypatch: pytest.MonkeyPatch):
    """The process was held up for 900 ns in all readings but the third."""
    own = iter([0, 900, 1000, 1900, 2000, 2010, 3000, 3900, 4000, 4900])
    wall = iter([7_000_800, 7_001_100, 7_002_005, 7_003_890, 7_004_000])
    monkeypatch.setattr(profiler, "perf_counter_ns", lambda: next(own))
    monkeypatch.setattr(profiler, "time_ns", lambda: next(wall))
    assert epoch() == 7_000_000


def test_silence_keeps_nothing():
    assert timeline_of(False) is SILENT
    assert SILENT.span("compute", "a") is SILENT.span("wait")
    SILENT.record("compute", 0, 10, 0)
    assert SILENT.profile(1) is None


# How it is told


def test_shares_are_of_the_loop_and_what_is_left_is_other():
    profile = Profile(3, 2_000_000_000, {"compute": 1_000_000_000, "wait": 250_000_000})
    percent = {"compute": 50.0, "integrate": 0.0, "wait": 12.5, "send": 0.0, "read": 0.0, "other": 37.5}
    assert profile.told() == {"ticks": 3, "seconds": 2.0, "percent": percent}


def test_a_trace_has_a_process_for_every_actor_and_one_origin():
    profiles = {
        "actor 0 (a)": Profile(2, 9, {}, (Span("compute", 1, 5_000_002_000, 1500, "a"),)),
        "silent": Profile(0, 9, {}),
        "the stream": Profile(2, 9, {}, (Span("read", 0, 5_000_000_000, 250),)),
    }
    events = list(trace_events(profiles))
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert names == dict(enumerate(profiles))
    where = {"ph": "X", "tid": 0}
    assert [event for event in events if event["ph"] == "X"] == [
        {**where, "name": "compute", "pid": 0, "ts": 2.0, "dur": 1.5, "args": {"tick": 1, "where": "a"}},
        {**where, "name": "read", "pid": 2, "ts": 0.0, "dur": 0.25, "args": {"tick": 0}},
    ]


def test_the_summary_shows_the_shares_largest_first(capsys: pytest.CaptureFixture[str]):
    from rich.console import Console
    from support.summary import SUMMARY

    percent = {"compute": 20.4, "integrate": 0.0, "wait": 70.0, "send": 0.4, "read": 0.0, "other": 9.2}
    profile = {"actor 0 (a)": {"ticks": 9, "seconds": 1.0, "percent": percent}}
    Console(width=160).print(summary_table({**SUMMARY, "profile": profile}))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[-3:] == [
        "time actor 0 (a): wait 70 %, compute 20 %, other 9 %",
        "directory out",
        "trace out/trace.json, to be opened in ui.perfetto.dev or chrome://tracing",
    ]


def test_the_summary_shows_what_ran_node_by_node_though_stacks_were_asked_for(
    capsys: pytest.CaptureFixture[str],
):
    from rich.console import Console
    from support.summary import SUMMARY

    slow = {"not_traced": {"a": "it warns: old (net.py:3)"}, "not_stacked": {"c": "it has no weights"}}
    execution = {"actor 0 (a)": {"node_by_node": "not traced: 'a'", **slow}, "actor 1 (b)": {"chunk": 2}}
    Console(width=160).print(summary_table({**SUMMARY, "execution": execution}))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line.startswith("execution")] == [
        "execution actor 0 (a): node by node (not traced: 'a')",
        "execution a is not traced: it warns: old (net.py:3)",
        "execution c is not stacked: it has no weights",
    ]


# Runs


def test_every_actor_of_a_run_records_its_layers_and_edges():
    """Per tick one frame each way along an edge, but for those that it begins with; per batch and layer an evaluation,
    another with its reverse-mode call when the costate comes, and one update; the loss hears every tick and is looked
    at where there is one."""
    builders = {
        "a": lambda: nn.Sequential(nn.Linear(9, 9), nn.Tanh()),
        "b": lambda: nn.Sequential(nn.Linear(9, 9), nn.Tanh()),
        "head": lambda: nn.Linear(9, 3),
    }
    actors = [["a", "b"], ["head"]]
    place, data = Locality(pairing="stashed"), batches(BATCHES, (9,))
    with Ensemble(
        network_of(builders), place, learning(), data, actors, dtype=torch.float32, profile=True
    ) as ensemble:
        outcomes, stream = ensemble.run()
        layout = ensemble.layout
    profiles = [outcome.profile for outcome in (*outcomes, stream)]
    for profile in profiles:
        check_sound(profile)
        assert profile.ticks == outcomes[0].ticks

    expected: list[Counter[tuple[str, str]]] = [Counter() for _ in profiles]
    ticks = outcomes[0].ticks
    for _, edge in layout.crossing():
        source, target = layout.hosts[edge.source], layout.hosts[edge.target]
        ahead = layout.ahead if source == layout.stream else 0
        expected[source] += Counter(
            {("send", edge.name): ticks, ("wait", edge.name): max(0, ticks - edge.ticks - ahead)}
        )
        expected[target] += Counter({("send", edge.name): ticks, ("wait", edge.name): ticks - edge.ticks})
    for number, names in enumerate(actors):
        for name in names:
            expected[number] += Counter({("compute", name): 2 * BATCHES, ("integrate", name): BATCHES})
    expected[1] += Counter({("compute", "loss"): ticks + BATCHES})
    expected[2] += Counter({("read", ""): BATCHES + 1})  # that none is left is read, too
    assert [counted(profile) for profile in profiles] == expected


def test_a_run_that_is_not_profiled_records_nothing():
    with Ensemble(
        network_of({"a": lambda: nn.Linear(9, 3)}),
        Locality(pairing="stashed"),
        learning(),
        batches(2, (9,)),
        [["a"]],
        dtype=torch.float32,
    ) as ensemble:
        outcomes, stream = ensemble.run()
    assert [outcome.profile for outcome in (*outcomes, stream)] == [None, None]


def test_a_run_in_one_process_leaves_a_trace_and_the_same_weights(tmp_path: Path):
    profiled = run(SMALL, out=tmp_path / "profiled", profile=True)
    plain = run(SMALL, out=tmp_path / "plain")
    for name in ("embed", "head"):
        ours, theirs = (
            load_file(tmp_path / out / "weights" / f"{name}.safetensors") for out in ("profiled", "plain")
        )
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert "profile" not in plain
    assert not (tmp_path / "plain" / "trace.json").exists()

    ((name, told),) = profiled["profile"].items()
    assert name == "inline (embed and head)"
    assert json.loads((tmp_path / "profiled" / "summary.json").read_text())["profile"] == profiled["profile"]
    assert told["percent"]["compute"] > 0
    assert sum(told["percent"].values()) == pytest.approx(100)
    events = json.loads((tmp_path / "profiled" / "trace.json").read_text())["traceEvents"]
    assert all({"ph", "ts", "dur", "pid", "tid", "name"} <= event.keys() for event in events)
    spans = [event for event in events if event["ph"] == "X"]
    assert all(one["ts"] + one["dur"] <= next["ts"] + 1e-4 for one, next in pairwise(spans))
    assert {span["args"]["tick"] for span in spans} == set(range(told["ticks"]))
    kinds = Counter(span["name"] for span in spans)
    assert kinds["integrate"] == 2 * BATCHES
    assert kinds["read"] == BATCHES + 1


def test_a_run_that_fails_leaves_its_trace(tmp_path: Path):
    broken = json.loads(json.dumps(SMALL))
    broken["stream"]["samples"] = 16 * 2 * SURVEY
    broken["network"]["layers"][0]["modules"][0] = {
        "type": "support.ray_layers:Fails",
        "at": SURVEY + 4,
        **LINEAR,
    }
    with pytest.raises(RunError, match="out of numbers"):
        run(broken, out=tmp_path / "out", profile=True)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    ((_, told),) = summary["profile"].items()
    spans = json.loads((tmp_path / "out" / "trace.json").read_text())["traceEvents"]
    assert (summary["status"], spans[-1]["name"], spans[-1]["args"]["where"]) == (
        "failed",
        "compute",
        "embed",
    )
    assert spans[-1]["args"]["tick"] == told["ticks"]
