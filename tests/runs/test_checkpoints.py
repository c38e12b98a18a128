"""A checkpoint is whole or it is not there: what is read is what was written, by node, and nothing else is read."""

import random
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from support.inline import learning, runtime_of
from support.networks import residual_net
from support.samples import samples
from torch import Tensor
from torch.utils._pytree import tree_leaves

from hamdist.cluster.source_part import SourcePart
from hamdist.config.loader import load
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.node_part import parts_of
from hamdist.engine.state import RuntimeState
from hamdist.errors import UserError
from hamdist.physics.rates import Adam
from hamdist.runs.checkpoint_part import (
    CheckpointError,
    PartFile,
    folder_of,
    part_bytes,
    tick_of,
    write_source,
)
from hamdist.runs.checkpoints import (
    Checkpoints,
    Found,
    checked,
    forget_after,
    newest_whole,
    prune,
    ticks_in,
)
from hamdist.runs.folder import Folder
from hamdist.runs.manifest import MANIFEST, Manifest
from hamdist.runs.resumable import differences, fixed

CONFIG = {"seed": 0, "learning.beta": 0.1, "stream.samples": 100}
RECORD = {"seconds": 1.5, "lines": 3}


def runtime(ticks: int) -> InlineRuntime:
    batches = samples(40, (8,))
    made = runtime_of(residual_net(3), batches, rule=learning(0.05, adaptive=Adam()))
    for x, y in batches[:ticks]:
        list(made.present(x, y))
    return made


def source_of(cut: RuntimeState) -> SourcePart:
    stream = {"pass": 3, "order": torch.arange(5)}
    return SourcePart(cut.source, stream, (torch.ones(4, 8), torch.zeros(4, dtype=torch.long)))


def written(folder: Folder, ticks: int, keep: int = 3, config: dict[str, Any] = CONFIG) -> RuntimeState:
    """The cut whose checkpoint is there now."""
    made = runtime(ticks)
    cut, checkpoints = made.cut(), Checkpoints(folder, keep, config)
    write = checkpoints.writer(made.program.graph.edges)
    assert write is not None
    checkpoints.commit(source_of(cut), write(cut.partition), RECORD)
    return cut


def same(one: Any, other: Any) -> bool:
    """Of two trees, to the bit, whatever the order of mappings."""
    return all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b
        for a, b in zip(tree_leaves(ordered(one)), tree_leaves(ordered(other)), strict=True)
    )


def ordered(state: tuple[Any, ...]) -> list[Any]:
    return [dict(sorted(each.items())) if isinstance(each, dict) else each for each in state]


def found_in(folder: Folder) -> Found:
    found = newest_whole(folder, CONFIG)
    assert found is not None
    return found


@pytest.mark.parametrize("url", ["{}", "file://{}", "memory://{}"])
def test_what_is_read_is_what_was_written(tmp_path: Path, url: str):
    folder = Folder(url.format(tmp_path / "a b")) / "checkpoints"
    folder.make()
    assert newest_whole(folder, CONFIG) is None
    cut = written(folder, 12)
    found = found_in(folder)
    assert (found.tick, found.spoilt, found.manifest.samples) == (12, (), 48)
    assert found.manifest.record == RECORD
    assert same(found.partition(), cut.partition)
    source = found.source()
    assert same(source.state, cut.source)
    assert torch.equal(source.stream["order"], torch.arange(5))
    assert torch.equal(source.first[0], torch.ones(4, 8))


def test_a_run_goes_on_from_what_is_read(tmp_path: Path):
    folder = Folder(tmp_path)
    written(folder, 12)
    left, undisturbed = runtime(0), runtime(40)
    found = found_in(folder)
    left.restore(RuntimeState(found.partition(), found.source().state))
    for x, y in samples(40, (8,))[12:]:
        list(left.present(x, y))
    assert same(left.cut().partition, undisturbed.cut().partition)


def test_some_nodes_are_read_without_the_others(tmp_path: Path):
    folder = Folder(tmp_path)
    cut = written(folder, 12)
    for name in (tmp_path / folder_of(12)).glob("0.*"):
        name.unlink()
    checkpoints = Checkpoints(folder, 3, CONFIG)
    state = checkpoints.read(12, ["1", "loss"])
    assert sorted((*state.nodes, *state.losses)) == ["1", "loss"]
    assert set(state.signals) == {"1->2"}
    assert set(state.costates) == {"0->1"}
    assert same(
        state._replace(nodes={}, losses={}),
        cut.partition._replace(
            nodes={},
            losses={},
            signals={"1->2": cut.partition.signals["1->2"]},
            costates={"0->1": cut.partition.costates["0->1"]},
        ),
    )
    with pytest.raises(CheckpointError, match=r"part 0\.safetensors of tick 12 is missing"):
        checkpoints.read(12, ["0"])
    with pytest.raises(CheckpointError, match="knows no part of 'nobody'"):
        checkpoints.read(12, ["nobody"])


def test_parts_that_come_as_bytes_are_written_by_whoever_makes_them_whole(tmp_path: Path):
    """As those of another machine do, which does not see the folder."""
    made, folder = runtime(8), Folder(tmp_path)
    cut = made.cut()
    parts = [
        part_bytes(8, node, part) for node, part in parts_of(cut.partition, made.program.graph.edges).items()
    ]
    Checkpoints(folder, 3, CONFIG).commit(source_of(cut), parts, RECORD)
    assert same(found_in(folder).partition(), cut.partition)


def test_files_are_hardly_larger_than_what_is_in_them(tmp_path: Path):
    made = runtime_of(residual_net(3, width=256), samples(1, (256,)))
    for x, y in samples(8, (256,)):
        list(made.present(x, y))
    cut, folder = made.cut(), Folder(tmp_path)
    checkpoints = Checkpoints(folder, 3, CONFIG)
    write = checkpoints.writer(made.program.graph.edges)
    assert write is not None
    checkpoints.commit(source_of(cut), write(cut.partition), RECORD)
    tensors = {id(leaf): leaf.nbytes for leaf in tree_leaves(cut) if isinstance(leaf, Tensor)}
    on_disk = sum(file.stat().st_size for file in (tmp_path / folder_of(8)).iterdir())
    assert on_disk < 1.05 * sum(tensors.values())


# What is not whole


def test_parts_without_a_manifest_are_no_checkpoint(tmp_path: Path):
    folder = Folder(tmp_path)
    written(folder, 8)
    written(folder, 12)
    (tmp_path / folder_of(12) / MANIFEST).unlink()
    found = found_in(folder)
    assert (found.tick, found.spoilt) == (8, ())


def test_what_does_not_fit_in_is_never_a_checkpoint(tmp_path: Path):
    folder = Folder(tmp_path)
    written(folder, 8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # bytes of a file that this process writes
    try:
        with pytest.raises(OSError, match="File too large"):
            written(folder, 12)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found_in(folder).tick == 8
    assert [path.name for path in (tmp_path / folder_of(12)).iterdir()] == []


class Spoilt(NamedTuple):
    """A file of a checkpoint as it should not be.  data: None: it is gone."""

    name: str
    data: bytes | None
    told: str


KINDS = 5


def spoilt(files: dict[str, bytes], others: dict[str, bytes], count: int) -> Iterator[Spoilt]:
    """others: those of another tick."""
    draw = random.Random(0)
    for number in range(count):
        name = draw.choice([*files, *([MANIFEST] * len(files))])
        data, kind = files[name], number % KINDS
        if kind == 0 and name != MANIFEST:
            yield Spoilt(name, None, "is missing")
        elif kind == 1:
            yield Spoilt(name, data[: draw.randrange(len(data))], "cut short")
        elif kind == 2:
            yield Spoilt(name, others[name], "belongs to another checkpoint, that of tick 12")
        else:
            place, bit = draw.randrange(len(data)), draw.randrange(8)
            flipped = bytes([data[place] ^ 1 << bit])
            yield Spoilt(name, data[:place] + flipped + data[place + 1 :], "changed")


def files_in(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def test_a_thousand_spoilt_checkpoints_are_refused_by_the_name_of_the_part(tmp_path: Path):
    """None is read, and the newest before it that is whole is found."""
    folder = Folder(tmp_path)
    for ticks in (8, 12, 16):
        written(folder, ticks)
    newest, others = tmp_path / folder_of(16), files_in(tmp_path / folder_of(12))
    files, told = files_in(newest), dict.fromkeys(("is missing", "cut short", "belongs", "changed"), 0)
    for name, data, why in spoilt(files, others, 1000):
        (newest / name).unlink() if data is None else (newest / name).write_bytes(data)
        found = found_in(folder)
        (newest / name).write_bytes(files[name])
        assert found.tick == 12
        (message,) = found.spoilt
        assert name in message
        assert "of tick 16" in message
        assert why in message
        told[next(known for known in told if known in message)] += 1
    assert min(told.values()) > 50
    assert found_in(folder).tick == 16


def test_where_nothing_is_whole_all_is_told(tmp_path: Path):
    folder = Folder(tmp_path)
    for ticks in (8, 12):
        written(folder, ticks)
        (tmp_path / folder_of(ticks) / "1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint that is whole: .*tick 12.*tick 8"):
        newest_whole(folder, CONFIG)


def test_parts_of_another_layer_are_named(tmp_path: Path):
    folder = Folder(tmp_path)
    written(folder, 8)
    at = tmp_path / folder_of(8)
    (at / "0.safetensors").write_bytes((at / "1.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"part 0\.safetensors of tick 8 is the part of '1'"):
        checked(folder, 8)


def test_a_folder_under_another_name_is_refused(tmp_path: Path):
    folder = Folder(tmp_path)
    written(folder, 8)
    (tmp_path / folder_of(8)).rename(tmp_path / folder_of(9))
    with pytest.raises(CheckpointError, match="of tick 9 belongs to another checkpoint, that of tick 8"):
        newest_whole(folder, CONFIG)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 2}, r"manifest\.json of tick 8 is of format 2, which another version of hamdist"),
        (
            {"versions": {"hamdist": "9.9", "torch": torch.__version__}},
            r"manifest\.json of tick 8: hamdist 9\.9 wrote it",
        ),
    ],
)
def test_those_of_another_version_are_refused(tmp_path: Path, changed: dict[str, Any], message: str):
    folder = Folder(tmp_path)
    cut = written(folder, 8)
    part = write_source(folder / folder_of(8), source_of(cut))
    manifest = Manifest(8, 32, (part,), CONFIG, **changed)
    (folder / folder_of(8)).write(MANIFEST, manifest.as_bytes())
    with pytest.raises(CheckpointError, match=message):
        newest_whole(folder, CONFIG)


def test_those_of_another_torch_are_read_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = Folder(tmp_path)
    written(folder, 8)
    known = checked(folder, 8)
    other = Manifest(8, 32, known.parts, CONFIG, versions={**known.versions, "torch": "2.11.0"})
    (folder / folder_of(8)).write(MANIFEST, other.as_bytes())
    assert found_in(folder).tick == 8
    assert "torch 2.11.0 wrote the checkpoint: bits may differ" in caplog.text


def test_those_of_another_config_are_refused_by_key(tmp_path: Path):
    folder = Folder(tmp_path)
    written(folder, 8)
    with pytest.raises(CheckpointError) as caught:
        newest_whole(folder, {**CONFIG, "learning.beta": 0.2, "seed": 1})
    assert [problem.key for problem in caught.value.problems] == ["seed", "learning.beta"]
    assert "was 0.1 and is 0.2 now" in str(caught.value)


# Which stay


def test_the_newest_stay(tmp_path: Path):
    folder = Folder(tmp_path)
    for ticks in (4, 8, 12, 16):
        written(folder, ticks, keep=2)
    assert ticks_in(folder) == [16, 12]
    assert sorted(folder.names()) == [folder_of(12), folder_of(16)]


def test_what_broke_off_goes_with_the_next_one_and_what_is_in_work_stays(tmp_path: Path):
    folder = Folder(tmp_path)
    written(folder, 8)
    (folder / folder_of(4)).write("0.safetensors", b"broken off")
    (folder / folder_of(12)).write("0.safetensors", b"in work")
    (folder / "of others").write("x", b"y")
    prune(folder, 1)
    assert folder.names() == ["of others", folder_of(8), folder_of(12)]
    forget_after(folder, 8)
    assert folder.names() == ["of others", folder_of(8)]


def test_names_of_folders():
    assert tick_of(folder_of(12)) == 12
    assert tick_of(folder_of(10**13)) == 10**13
    assert [tick_of(name) for name in ("tick-12", "tick-", "tick-0000000000-1", "x", "tick-٠")] == [None] * 5


def test_none_are_written_where_none_are_wanted(tmp_path: Path):
    checkpoints = Checkpoints.none()
    assert not checkpoints.on
    assert checkpoints.writer(()) is None
    checkpoints.commit(source_of(runtime(4).cut()), (), RECORD)
    with pytest.raises(CheckpointError, match="none are written"):
        checkpoints.read(4, ["0"])


def test_a_place_that_cannot_be_is_told_before_anything_runs(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    for url in (str(tmp_path / "file" / "in"), "nowhere://x/y"):
        with pytest.raises(UserError, match="cannot hold checkpoints"):
            Folder(url).make()


def test_actors_write_parts_without_ray():
    code = (
        "import sys, hamdist.runs.checkpoints as c, pickle;"
        "from hamdist.runs.folder import Folder;"
        "w = pickle.loads(pickle.dumps(c.Checkpoints(Folder('x'), 3, {}).writer(())));"
        "print(w.checkpoints, 'ray' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["x", "False"]


# What of a config may change


BASE: dict[str, Any] = {
    "name": "x",
    "stream": {"source": "digits", "samples": 1000},
    "network": {
        "loss": "cross_entropy",
        "layers": [{"name": "a", "modules": [{"type": "Linear", "in_features": 64, "out_features": 10}]}],
    },
}


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "placement={runtime: ray, actors: per-layer, chunk: 4, stack: true, threads: 2}",
        "checkpoint={every_ticks: 3, keep: 9}",
        "recovery.max_failures=1",
        "on_bad=skip",
        "metrics_every=5",
        "learning.beta=0.2",
        "learning.beta={schedule: linear, start: 0.2, over: 9}",
        "stream.samples=1000",
        "stream.samples=5000",
        "stream.samples=null",
    ],
)
def test_what_may_change(override: str):
    assert differences(fixed(load(BASE).config), fixed(load(BASE, [override]).config)) == []


@pytest.mark.parametrize(
    ("override", "key", "told"),
    [
        ("stream.samples=999", "stream.samples", "was 1000 and is 999 now"),
        ("seed=1", "seed", "was 0 and is 1 now"),
        ("learning.tau=0.5", "learning.tau", "was 1.0 and is 0.5 now"),
        ("locality.mode=nonlocal", "locality.mode", "was 'local' and is 'nonlocal' now"),
        ("stream.hold=2", "stream.hold", "was 1 and is 2 now"),
        ("stream.standardise=true", "stream.standardise", "was false and is true now"),
        ("learning.clip=1", "learning.clip", "was null and is 1.0 now"),
        ("network.layers.0.modules.0.bias=false", "network.layers.0.modules.0.bias", "was null and is false"),
    ],
)
def test_what_may_not(override: str, key: str, told: str):
    ((found, why),) = differences(fixed(load(BASE).config), fixed(load(BASE, [override]).config))
    assert found == key
    assert told in why


def test_a_part_says_what_it_holds(tmp_path: Path):
    part = write_source(Folder(tmp_path), source_of(runtime(4).cut()))
    assert part == PartFile("source", "source.safetensors", (tmp_path / part.file).stat().st_size, part.crc32)
