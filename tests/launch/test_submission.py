"""Runs as Ray jobs, without a cluster: what is sent, what comes back within the log, how a job is followed, stopped."""

import asyncio
import base64
import hashlib
import io
import json
import os
import random
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from importlib.metadata import distributions, version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from support.patience import patient
from support.summary import SUMMARY
from typer.testing import CliRunner

from hamdist.config import load
from hamdist.config.loader import resolved_yaml
from hamdist.errors import MissingExtraError, RunError, UserError
from hamdist.launch import job as on_the_cluster
from hamdist.launch import submission, submitted_job
from hamdist.launch.job_environment import job_environment
from hamdist.launch.log_archive import LINE, ArchiveReader, lines_of
from hamdist.launch.submission import connected, reserved, run_submitted
from hamdist.launch.submitted_job import SubmittedJob

PACKAGE = Path(submission.__file__).parents[1]
BOUNDARY = "hamdist-0123456789abcdef"
SMALL = {
    "name": "small",
    "stream": {"source": "digits", "batch_size": 16, "samples": 96},
    "network": {
        "loss": "cross_entropy",
        "layers": [
            {"name": "embed", "modules": [{"type": "Linear", "in_features": 64, "out_features": 4}]},
            {"name": "head", "modules": [{"type": "Linear", "in_features": 4, "out_features": 10}]},
        ],
    },
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, as a user who agrees with the cluster on tokens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr(submitted_job, "SECONDS_BEFORE_RECONNECTING", 0.0)
    return tmp_path


@pytest.fixture
def small(folder: Path) -> str:
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return "small.yaml"


def filled(directory: Path) -> dict[str, bytes]:
    """A run directory with weights of several lines; its files by their names."""
    weights = random.Random(0).randbytes(3 * LINE + 5)
    files = {"config.yaml": b"name: small\n", "summary.json": b"{}", "weights/head.safetensors": weights}
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    return files


def files_in(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def pieces(text: str, seed: int) -> Iterator[str]:
    """The text in pieces of random lengths."""
    chance = random.Random(seed)
    while text:
        length = chance.choice((1, 7, 100, 20_000))
        yield text[:length]
        text = text[length:]


# The archive


@pytest.mark.parametrize("seed", range(5))
def test_a_directory_comes_back_from_within_a_log_that_is_cut_anywhere(tmp_path: Path, seed: int):
    files = filled(tmp_path / "there")
    first, *others = lines_of(tmp_path / "there", BOUNDARY)
    assert len(others) > 3
    log = f"python -m hamdist.launch.job {BOUNDARY}\nhalf done{first}{others[0]}a warning\n{''.join(others[1:])}no end"
    reader = ArchiveReader(BOUNDARY)
    shown = "".join(reader.feed(piece) for piece in pieces(log, seed)) + reader.rest()
    assert shown == f"python -m hamdist.launch.job {BOUNDARY}\nhalf done\na warning\nno end"
    assert reader.unpack(tmp_path / "here")
    assert files_in(tmp_path / "here") == files


def test_lines_are_bounded_and_end_with_a_digest(tmp_path: Path):
    filled(tmp_path / "there")
    lines = list(lines_of(tmp_path / "there", BOUNDARY))
    assert max(map(len, lines)) <= len(BOUNDARY) + 2 + 4 * LINE // 3
    data = b"".join(base64.b64decode(line.split()[1]) for line in lines[:-1])
    assert lines[-1].split() == [BOUNDARY, "end", hashlib.sha256(data).hexdigest()]


def test_beyond_the_limit_the_weights_stay_behind(tmp_path: Path):
    files = filled(tmp_path / "there")
    limit = sum(map(len, files.values()))
    assert received(lines_of(tmp_path / "there", BOUNDARY, limit), tmp_path / "all") == files
    del files["weights/head.safetensors"]
    assert received(lines_of(tmp_path / "there", BOUNDARY, limit - 1), tmp_path / "some") == files


def received(lines: Iterator[str] | Sequence[str], directory: Path) -> dict[str, bytes]:
    reader = ArchiveReader(BOUNDARY)
    assert reader.feed("".join(lines)) == ""
    assert reader.unpack(directory)
    return files_in(directory)


def test_a_log_without_an_archive(tmp_path: Path):
    reader = ArchiveReader(BOUNDARY)
    assert reader.feed("one\ntwo\n") == "one\ntwo\n"
    assert not reader.unpack(tmp_path / "here")
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: lines[:-1],
        lambda lines: [lines[-1]],
        lambda lines: [*lines[:1], *lines[2:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[1].replace("A", "*"), *lines[2:]],
    ],
    ids=["no end", "nothing but the end", "one lost", "out of order", "no base64"],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, spoil: Callable[[list[str]], list[str]]):
    filled(tmp_path / "there")
    reader = ArchiveReader(BOUNDARY)
    reader.feed("".join(spoil(list(lines_of(tmp_path / "there", BOUNDARY)))))
    with pytest.raises(RunError, match="came back damaged"):
        reader.unpack(tmp_path / "here")
    assert not (tmp_path / "here").exists()


def archive_with(*members: tarfile.TarInfo) -> list[str]:
    """Lines of an archive of these members, whose content is "evil"."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for member in members:
            member.size = 4 if member.isfile() else 0
            tar.addfile(member, io.BytesIO(b"evil") if member.isfile() else None)
    data = archive.getvalue()
    return [
        f"{BOUNDARY} {base64.b64encode(data).decode()}\n",
        f"{BOUNDARY} end {hashlib.sha256(data).hexdigest()}\n",
    ]


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        (member("../evil"),),
        (member("weights/../../evil"),),
        (member("link", tarfile.SYMTYPE, ".."), member("link/evil")),
        (member("evil", tarfile.SYMTYPE, "/etc/passwd"),),
        (member("evil", tarfile.LNKTYPE, "../other"),),
        (member("evil", tarfile.CHRTYPE),),
        (member("evil", tarfile.FIFOTYPE),),
        (member("evil", tarfile.DIRTYPE),),
    ],
    ids=["above", "through", "by a link", "symlink", "hard link", "device", "pipe", "folder"],
)
def test_hostile_members_are_refused_and_nothing_is_written_elsewhere(
    tmp_path: Path, members: tuple[tarfile.TarInfo, ...]
):
    here = tmp_path / "outer" / "here"
    here.mkdir(parents=True)
    reader = ArchiveReader(BOUNDARY)
    reader.feed("".join(archive_with(*members)))
    with pytest.raises(RunError, match="what came back"):
        reader.unpack(here)
    assert list((tmp_path / "outer").rglob("*")) == [here]


def test_an_absolute_name_stays_within_the_directory(tmp_path: Path):
    target = tmp_path / "evil"
    assert received(archive_with(member(str(target))), tmp_path / "here") == {str(target)[1:]: b"evil"}
    assert not target.exists()


# What is sent


def test_what_travels_is_the_config_and_code_alone(folder: Path, small: str):
    (folder / "mine").mkdir()
    (folder / "mine" / "layers.py").write_text("here = True")
    (folder / "data.npz").write_bytes(b"large")
    (folder / "hamdist").mkdir()
    (folder / "hamdist" / "command.py").write_text("of a checkout that is not in use")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "other.py").touch()
    with job_environment("name: small\n") as environment:
        assert set(files_in(Path(environment["working_dir"]))) == {"small.yaml", "mine/layers.py"}
        modules = {Path(module).name: Path(module) for module in environment["py_modules"]}
        assert (modules["hamdist_submission"] / "config.yaml").read_text() == "name: small\n"
        for name in ("command.py", "streams/digits.npz"):
            assert (modules["hamdist"] / name).read_bytes() == (PACKAGE / name).read_bytes()
        assert (modules["hamdist"] / "launch" / "job.py").read_text() == Path(
            on_the_cluster.__file__
        ).read_text()
        (metadata,) = [module for module in modules.values() if module.suffix == ".dist-info"]
        (found,) = distributions(path=[str(metadata.parent)])
        assert (found.name, found.version) == ("hamdist", version("hamdist"))
    assert environment["env_vars"] == {"RAY_AUTH_MODE": "token", "RAY_JOB_STOP_WAIT_TIME_S": "120"}
    assert not any(module.exists() for module in modules.values())


def test_the_cluster_runs_what_was_sent_and_prints_what_came_of_it(
    folder: Path, small: str, monkeypatch: pytest.MonkeyPatch
):
    """From one end to the other, but for the cluster: in this process, inline."""
    monkeypatch.setattr(on_the_cluster, "joined", nullcontext)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    with job_environment(resolved_yaml(load(small, ["stream.samples=64"]).config)) as environment:
        monkeypatch.syspath_prepend(str(Path(environment["py_modules"][-2]).parent))
        result = CliRunner().invoke(on_the_cluster.app, [BOUNDARY, "--profile"])
    sys.modules.pop("hamdist_submission", None)
    assert result.exit_code == 0, result.output
    came = received(result.stdout.splitlines(keepends=True), folder / "here")
    assert came.keys() >= {"config.yaml", "trace.json"}
    summary = json.loads((folder / "here" / "summary.json").read_text())
    assert (summary["status"], summary["samples"]) == ("finished", 64)
    assert not list(folder.glob("hamdist-run-*"))


def test_a_directory_that_is_too_large_stays_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    files = filled(tmp_path / "there")
    on_the_cluster.send(tmp_path / "there", BOUNDARY, limit=1000)
    out, err = capsys.readouterr()
    assert err.startswith(
        "the run directory has 0 MiB, more than the 0 MiB that are sent: its weights stay on "
    )
    assert err.endswith(f" in {tmp_path / 'there'}\n")
    assert files_in(tmp_path / "there") == files
    assert set(received(out.splitlines(keepends=True), tmp_path / "here")) == {"config.yaml", "summary.json"}


def test_of_a_run_that_never_began_nothing_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "there").mkdir()
    on_the_cluster.send(tmp_path / "there", BOUNDARY)
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "there").exists()


# Following


class Status(str):
    """As Ray's: text that knows whether there is more to come."""

    def is_terminal(self) -> bool:
        return self != "RUNNING"


class Cluster:
    """Stands in for Ray's client: one job, whose log breaks off after each of `connections` but the last.

    tailing: called when a log has been sent to the end of a connection.  quietly: it ends without an error, too early.
    """

    quietly = False

    def __init__(self, *connections: str, status: str = "SUCCEEDED", code: int | None = 0) -> None:
        self.connections = list(connections)
        self.status, self.code = status, code
        self.submitted: list[dict[str, Any]] = []
        self.stopped = asyncio.Event()
        self.tailing: Callable[[], None] = lambda: None

    def submit_job(self, **arguments: Any) -> str:
        self.submitted.append(arguments)
        return "raysubmit_1"

    async def tail_job_logs(self, job: str) -> Any:
        for piece in pieces(self.connections.pop(0), 0):
            yield piece
        self.tailing()
        await asyncio.sleep(0)
        if self.connections and not self.quietly:
            raise RuntimeError("the line went dead")

    def get_job_info(self, job: str) -> Any:
        status = Status("RUNNING" if self.connections else self.status)
        return SimpleNamespace(status=status, driver_exit_code=self.code, message="no such node")

    def stop_job(self, job: str) -> None:
        self.stopped.set()


@pytest.fixture
def with_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp comes with an extra; of it only an error's name is needed here."""
    module = ModuleType("aiohttp")
    vars(module)["ClientError"] = ConnectionError
    monkeypatch.setitem(sys.modules, "aiohttp", module)


@pytest.fixture
def cluster_of(monkeypatch: pytest.MonkeyPatch, with_aiohttp: None) -> Callable[[Cluster], Cluster]:
    """A cluster for run_submitted, whose archives have BOUNDARY in every line."""

    def use(cluster: Cluster) -> Cluster:
        monkeypatch.setattr(submission, "connected", lambda address: cluster)
        monkeypatch.setattr("secrets.token_hex", lambda count: BOUNDARY.removeprefix("hamdist-"))
        return cluster

    return use


def finished(folder: Path, status: str = "finished") -> str:
    """The archive of a run that has ended."""
    there = folder / "there"
    filled(there)
    summary = {**SUMMARY, "status": status, "directory": "/tmp/elsewhere"}
    (there / "summary.json").write_text(json.dumps(summary))
    return "".join(lines_of(there, BOUNDARY))


def submit(config: str, *overrides: str, out: str | None = "out", profile: bool = False) -> int:
    return run_submitted(config, overrides, "http://head:8265", Path(out) if out else None, profile)


def test_a_job_that_ends_well(
    folder: Path, small: str, cluster_of: Callable[[Cluster], Cluster], capsys: pytest.CaptureFixture[str]
):
    cluster = cluster_of(Cluster(f"0 of 96 samples\n{finished(folder)}"))
    assert submit(small, "seed=3") == 0
    (job,) = cluster.submitted
    assert job["entrypoint"] == f"python -m hamdist.launch.job {BOUNDARY}"
    out, err = capsys.readouterr()
    assert err == "job raysubmit_1\n0 of 96 samples\n"
    assert [line.split() for line in out.splitlines()][-1] == ["directory", "out"]
    assert files_in(folder / "out") == files_in(folder / "there")


def test_a_job_profiles_where_that_is_asked_for(
    folder: Path, small: str, cluster_of: Callable[[Cluster], Cluster]
):
    cluster = cluster_of(Cluster(finished(folder)))
    assert submit(small, profile=True) == 0
    (job,) = cluster.submitted
    assert job["entrypoint"] == f"python -m hamdist.launch.job {BOUNDARY} --profile"


def test_the_directory_is_a_fresh_one_by_default(
    folder: Path, small: str, cluster_of: Callable[[Cluster], Cluster]
):
    archive = finished(folder)
    for expected in ("runs/small", "runs/small-2"):
        cluster_of(Cluster(archive))
        assert submit(small, out=None) == 0
        assert (folder / expected / "summary.json").is_file()


def test_the_config_that_is_sent_is_whole(monkeypatch: pytest.MonkeyPatch, folder: Path, small: str):
    sent = []
    monkeypatch.setattr(submission, "connected", lambda address: Cluster())
    monkeypatch.setattr(
        SubmittedJob, "run", lambda self, config: sent.append(yaml.safe_load(config)) or asyncio.sleep(0)
    )
    monkeypatch.setattr(SubmittedJob, "finish", lambda self, directory: 0)
    submit(small, "learning.beta=0.25", "placement.address=10.0.0.1:6379")
    assert (sent[0]["learning"]["beta"], sent[0]["seed"]) == (0.25, 0)
    assert (sent[0]["placement"]["runtime"], sent[0]["placement"]["address"]) == ("ray", "auto")
    assert not (folder / "out").exists(), "where nothing came back, nothing is left"


@pytest.mark.parametrize("quietly", [False, True])
def test_a_log_that_breaks_off_is_taken_up_where_it_was(
    folder: Path,
    small: str,
    cluster_of: Callable[[Cluster], Cluster],
    capsys: pytest.CaptureFixture[str],
    quietly: bool,
):
    log = f"one\ntwo\nthree\n{finished(folder)}"
    ever_more = [log[:length] for length in range(1000, 9000, 800)]
    cluster_of(Cluster("one\nt", "", log[:12], log[:900], *ever_more, log)).quietly = quietly
    assert submit(small) == 0
    assert capsys.readouterr().err == "job raysubmit_1\none\ntwo\nthree\n"


def test_a_log_that_breaks_off_for_good(small: str, folder: Path, cluster_of: Callable[[Cluster], Cluster]):
    cluster_of(Cluster(*["one\n"] * 20))
    with pytest.raises(
        RunError, match=r"log of job raysubmit_1 was lost: the line went dead; the job goes on"
    ) as caught:
        submit(small)
    assert "ray job stop raysubmit_1" in str(caught.value)
    assert not (folder / "out").exists()


def test_a_failed_run_has_its_own_exit_status(
    folder: Path, small: str, cluster_of: Callable[[Cluster], Cluster], capsys: pytest.CaptureFixture[str]
):
    cluster_of(Cluster(f"diverged\n{finished(folder, 'failed')}", status="FAILED", code=1))
    assert submit(small) == 1
    assert capsys.readouterr() == ("", "job raysubmit_1\ndiverged\nwhat it left is in out\n")
    assert (folder / "out" / "weights" / "head.safetensors").is_file()


def test_bad_input_that_only_the_cluster_could_find(
    folder: Path, small: str, cluster_of: Callable[[Cluster], Cluster], capsys: pytest.CaptureFixture[str]
):
    cluster_of(Cluster("placement.requests: no node has it", status="FAILED", code=2))
    assert submit(small) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "placement.requests: no node has it"
    assert not (folder / "out").exists()


def test_a_job_that_could_not_run(small: str, cluster_of: Callable[[Cluster], Cluster]):
    cluster_of(Cluster("", status="FAILED", code=None))
    with pytest.raises(RunError, match="job raysubmit_1 could not run: no such node"):
        submit(small)


def test_a_run_that_ended_well_but_did_not_come_back(small: str, cluster_of: Callable[[Cluster], Cluster]):
    cluster_of(Cluster("done\n"))
    with pytest.raises(RunError, match="ended well, but its run directory did not come back"):
        submit(small)


def test_a_job_that_is_not_accepted(
    small: str, cluster_of: Callable[[Cluster], Cluster], monkeypatch: pytest.MonkeyPatch
):
    cluster = cluster_of(Cluster())

    def refuse(**_: Any) -> str:
        raise RuntimeError("Request failed\nwith status 500")

    monkeypatch.setattr(cluster, "submit_job", refuse)
    with pytest.raises(RunError, match="the job was not accepted: Request failed with status 500"):
        submit(small)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_job_which_sends_what_it_has(
    folder: Path,
    small: str,
    cluster_of: Callable[[Cluster], Cluster],
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
):
    cluster = cluster_of(Cluster(finished(folder, "interrupted"), status="STOPPED", code=None))
    cluster.tailing = lambda: os.kill(os.getpid(), number)
    before = signal.getsignal(number)
    with pytest.raises(typer.Exit) as caught:
        submit(small)
    assert caught.value.exit_code == 130
    assert cluster.stopped.is_set()
    out, err = capsys.readouterr()
    assert "stopping job raysubmit_1; once more leaves it to end by itself" in err
    assert out.split()[:2] == ["status", "interrupted"]
    assert (folder / "out" / "summary.json").is_file()
    assert signal.getsignal(number) == before


def test_a_second_signal_leaves_the_job(
    small: str, cluster_of: Callable[[Cluster], Cluster], monkeypatch: pytest.MonkeyPatch
):
    cluster = cluster_of(Cluster())

    async def endless(job: str) -> Any:
        yield "one\n"
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(cluster.stopped.wait(), patient(60))
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(asyncio.Event().wait(), patient(60))

    monkeypatch.setattr(cluster, "tail_job_logs", endless)
    with pytest.raises(KeyboardInterrupt):
        submit(small)


# Mistakes, before anything is sent


def test_mistakes_in_the_config_have_their_places(small: str):
    with pytest.raises(UserError) as caught:
        submit(small, "learning.beta=fast")
    assert str(caught.value).startswith("override learning.beta=fast: learning.beta: expected a number")
    assert submit_problem("no.yaml").startswith("no.yaml: there is no such file")


def submit_problem(config: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        submit(config, *overrides)
    return str(caught.value)


def test_standard_input_cannot_be_submitted(small: str):
    message = submit_problem(small, "stream={source: stdin}")
    assert message == (
        "override stream={source: stdin}: stream.source: 'stdin' is this process's own and cannot be submitted: join "
        "the cluster instead"
    )


def test_a_directory_that_is_taken(folder: Path, small: str, cluster_of: Callable[[Cluster], Cluster]):
    cluster = cluster_of(Cluster())
    filled(folder / "out")
    assert submit_problem(small) == "out holds a run already: name another directory, or remove it"
    (folder / "file").touch()
    with pytest.raises(UserError, match="cannot be the run directory"):
        reserved(folder / "file")
    assert cluster.submitted == []


def test_what_submitting_needs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(submission, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        connected("http://head:8265")
    assert str(caught.value) == "--submit needs an optional package: pip install 'hamdist[jobs]'"


@pytest.mark.parametrize(
    "error", [ConnectionError("Failed to\nconnect"), RuntimeError("404"), ValueError("no")]
)
def test_a_dashboard_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def client(address: str) -> Any:
        assert not {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"} & set(os.environ), "Ray would prefer these"
        raise error

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://other:8265")
    monkeypatch.setattr(submission, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "ray.job_submission", SimpleNamespace(JobSubmissionClient=client))
    with pytest.raises(UserError) as caught:
        connected("http://head:8265")
    reason = " ".join(str(error).split())
    assert str(caught.value).startswith(
        f"nothing can be submitted to http://head:8265: {reason}; is the cluster's"
    )
