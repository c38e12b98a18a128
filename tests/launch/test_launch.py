"""`hamdist launch` and its scripts, the files of Ray clusters; one run, from the shell to its summary."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml
from support.patience import patient
from support.summary import SUMMARY
from typer.testing import CliRunner

from hamdist.cli import app
from hamdist.cluster.session import prepare_environment
from hamdist.config import examples, load
from hamdist.errors import RunError
from hamdist.launch import cluster
from hamdist.launch.cluster import on_cluster
from hamdist.launch.local import on_this_machine

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "slurm.sbatch"
CLUSTERS = ROOT / "cluster_configs" / "ray"


def launched(way: str, *arguments: str, **environment: str) -> Any:
    """What `hamdist launch` does in this process: exit_code, stdout, stderr."""
    settings = {"COLUMNS": "120", "TERM": "dumb", "RAY_ADDRESS": None, **environment}
    return CliRunner().invoke(app, ["launch", way, *arguments], env=settings)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Instead of running, a run is noted here: (config, overrides, out, profile)."""
    noted: list[tuple[Any, ...]] = []

    def run(
        config: Any, overrides: Any, out: Any, on_progress: Any, profile: bool, **_: Any
    ) -> dict[str, Any]:
        noted.append((config, list(overrides), out, profile))
        return SUMMARY

    replace_run(monkeypatch, run)
    return noted


def replace_run(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    module = ModuleType("hamdist.runs.run")
    vars(module)["run"] = run
    monkeypatch.setitem(sys.modules, "hamdist.runs.run", module)


# Commands


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("local", ["CONFIG", "KEY.PATH=VALUE", "--out", "--profile", "--actors"]),
        (
            "cluster",
            ["CONFIG", "KEY.PATH=VALUE", "--out", "--profile", "--address", "--submit", "RAY_ADDRESS"],
        ),
        ("slurm", ["CONFIG", "KEY.PATH=VALUE", "--profile", "--sbatch"]),
    ],
)
def test_help(way: str, words: list[str]):
    result = launched(way, "--help")
    assert result.exit_code == 0
    assert [word for word in words if word not in result.stdout] == []


@pytest.mark.parametrize("way", ["local", "cluster", "slurm"])
def test_wrong_usage(way: str):
    for arguments in ((), ("digits", "--quick"), ("digits", "--actors", "0")):
        result = launched(way, *arguments)
        assert result.exit_code == 2
        assert "Usage" in result.stderr


def test_local_runs_over_ray_on_this_machine(runs: list[tuple[Any, ...]]):
    result = launched("local", "digits", "seed=1", "--actors", "3", "--out", "out", "--profile")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()][-1] == ["directory", "out"]
    ours = ["placement.runtime=ray", "placement.actors=3", "seed=1", "placement.address=local"]
    assert runs == [("digits", ours, Path("out"), True)]


def test_the_users_own_overrides_win_but_for_the_address():
    own = ["placement.actors=per-layer", "placement.runtime=inline", "placement.address=10.0.0.1:6379"]
    placement = load("digits", on_this_machine(own, 2)).config.placement
    assert (placement.actors, placement.runtime, placement.address) == ("per-layer", "inline", "local")
    placement = load("digits", on_cluster(own, "head:6379")).config.placement
    assert (placement.actors, placement.runtime, placement.address) == ("per-layer", "inline", "head:6379")


def test_without_a_number_the_config_says_how_many_actors():
    assert load("digits", on_this_machine(["placement.actors=5"])).config.placement.actors == 5
    assert load("digits", on_this_machine([])).config.placement.actors == "auto"


def test_a_cluster_is_named_by_the_option_or_by_the_environment(runs: list[tuple[Any, ...]]):
    assert launched("cluster", "digits", RAY_ADDRESS="there:6379").exit_code == 0
    assert (
        launched("cluster", "digits", "--address", "10.0.0.1:6379", RAY_ADDRESS="there:6379").exit_code == 0
    )
    assert [overrides[-1] for _, overrides, *_ in runs] == [
        "placement.address=there:6379",
        "placement.address=10.0.0.1:6379",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no cluster to join: give --address HOST:PORT, or set RAY_ADDRESS"),
        (["--submit"], "no cluster to submit to: give --address http://HEAD:8265, or set RAY_ADDRESS"),
        (
            ["--address", "http://head:8265"],
            "http://head:8265 is a dashboard's address: add --submit, or give HOST:PORT to join the cluster",
        ),
        (
            ["--address", "auto"],
            "'auto' is no cluster's address: give --address HOST:PORT (`hamdist launch local` needs none)",
        ),
        (
            ["--submit", "--address", "head:6379"],
            "head:6379 is not a dashboard's address: --submit needs one such as http://HEAD:8265",
        ),
        (
            ["--address", "head"],
            "override placement.address=head: placement.address: 'head' is not an address (accepted: auto, local, "
            "host:port)",
        ),
    ],
)
def test_addresses_that_will_not_do(arguments: list[str], message: str):
    result = launched("cluster", "digits", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"{message}\n")


@pytest.mark.parametrize(("way", "more"), [("local", []), ("cluster", ["--address", "head:6379"])])
@pytest.mark.parametrize(
    ("error", "status"),
    [(RunError("it failed"), 1), (KeyboardInterrupt(), 130)],
    ids=["failed", "interrupted"],
)
def test_exit_statuses(
    monkeypatch: pytest.MonkeyPatch, way: str, more: list[str], error: BaseException, status: int
):
    def run(*_: Any, **__: Any) -> Any:
        raise error

    replace_run(monkeypatch, run)
    result = launched(way, "digits", *more)
    assert (result.exit_code, result.stderr) == (status, f"{str(error) or 'interrupted'}\n")


def test_a_submitted_run_hands_on_the_exit_status(monkeypatch: pytest.MonkeyPatch):
    noted = []
    monkeypatch.setattr("hamdist.launch.submission.run_submitted", lambda *given: noted.append(given) or 1)
    arguments = ["digits", "seed=1", "--submit", "--address", "http://head:8265", "--out", "out", "--profile"]
    assert launched("cluster", *arguments).exit_code == 1
    assert noted == [("digits", ["seed=1"], "http://head:8265", Path("out"), True)]


# Slurm


@pytest.fixture
def slurm(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """The script as Slurm runs it on a job's first node, with an `srun` of the given commands."""

    def run(srun: str) -> subprocess.CompletedProcess[str]:
        commands = tmp_path / "bin"
        commands.mkdir()
        (commands / "srun").write_text(f"#!/bin/bash\n{srun}\n")
        (commands / "srun").chmod(0o755)
        (commands / "python").symlink_to(sys.executable)
        settings = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_JOB_ID": "1234567",
            "SLURM_NNODES": "3",
            "HEAD_ADDRESS": "10.0.0.1",
        }
        line = [
            "bash",
            str(SCRIPT),
            "digits-cluster",
            "learning.beta={schedule: cosine, start: 0.2, over: 40}",
        ]
        return subprocess.run(
            line,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(240),
        )

    return run


DONE = "mkdir -p runs/1234567; touch runs/1234567/summary.json"


@pytest.mark.slow
def test_slurm_starts_a_cluster_and_a_run_on_it(
    slurm: Callable[[str], subprocess.CompletedProcess[str]], tmp_path: Path
):
    """What srun is to run on every node is taken apart by Ray's own command and by the launcher."""
    done = slurm(
        'printf "%s\\0" "$@" >arguments; env -0 >settings; stat -c %a "$RAY_AUTH_TOKEN_PATH" >mode\n'
        f'cp "$RAY_AUTH_TOKEN_PATH" token; {DONE}'
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    arguments = (tmp_path / "arguments").read_text().split("\0")[:-1]
    assert arguments[:2] == ["--ntasks=3", "--ntasks-per-node=1"]
    assert (tmp_path / "mode").read_text() == "600\n"
    assert re.fullmatch("[0-9a-f]{64}", (tmp_path / "token").read_text())
    assert not list(tmp_path.glob(".ray-token*"))
    settings = dict(line.split("=", 1) for line in (tmp_path / "settings").read_text().split("\0") if line)
    assert settings["RAY_AUTH_MODE"] == "token"
    ray, launcher = on_a_node(arguments[2:], tmp_path)
    options = symmetric_run(ray)
    assert (options["address"], options["min_nodes"]) == ("10.0.0.1:24567", 3)
    assert options["ray_args_and_entrypoint"] == ("--labels=node=2",)
    assert launcher[:5] == ["python", "-m", "hamdist", "launch", "cluster"]
    parsed = cluster_arguments(launcher[5:])
    assert (parsed["config"], parsed["address"], parsed["out"]) == (
        "digits-cluster",
        "10.0.0.1:24567",
        Path("runs/1234567"),
    )
    assert parsed["overrides"] == ["learning.beta={schedule: cosine, start: 0.2, over: 40}"]


def on_a_node(command: list[str], folder: Path) -> tuple[list[str], list[str]]:
    """What `ray` is called with on the job's third node: its own arguments, and the command for the head."""
    commands = folder / "node"
    commands.mkdir()
    (commands / "ray").write_text('#!/bin/bash\nprintf "%s\\0" "$@"\n')
    (commands / "ray").chmod(0o755)
    settings = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "SLURM_NODEID": "2"}
    done = subprocess.run(
        command, env=settings, capture_output=True, text=True, check=True, timeout=patient(240)
    )
    arguments = done.stdout.split("\0")[:-1]
    assert arguments[0] == "symmetric-run"
    cut = arguments.index("--")
    return arguments[1:cut], arguments[cut + 1 :]


def symmetric_run(arguments: list[str]) -> dict[str, Any]:
    prepare_environment()
    from ray.scripts.symmetric_run import symmetric_run

    return symmetric_run.make_context("symmetric-run", list(arguments), resilient_parsing=True).params


def cluster_arguments(arguments: list[str]) -> dict[str, Any]:
    from typer.main import get_command

    return get_command(cluster.app).make_context("cluster", list(arguments)).params


@pytest.mark.slow
def test_slurm_hands_on_the_exit_status(slurm: Callable[[str], subprocess.CompletedProcess[str]]):
    assert slurm(f"{DONE}; exit 3").returncode == 3


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Puts an `sbatch` in place that ends with a status; returns the file that its arguments go to."""

    def make(status: int) -> Path:
        command, noted = tmp_path / "sbatch", tmp_path / "arguments"
        command.write_text(f'#!/bin/bash\nprintf "%s\\0" "$@" >{noted}; exit {status}\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return noted

    return make


def test_slurm_queues_the_script_with_the_runs_arguments(sbatch: Callable[[int], Path]):
    noted = sbatch(0)
    options = ["--sbatch", "nodes=4", "--profile", "--sbatch", "requeue"]
    result = launched("slurm", "digits", "seed=1", *options, "learning.beta=0.2")
    assert (result.exit_code, result.stderr) == (0, "")
    queued = ["--nodes=4", "--requeue", str(SCRIPT), "digits", "seed=1", "learning.beta=0.2", "--profile"]
    assert noted.read_text().split("\0")[:-1] == queued


def test_where_slurm_does_not_queue_it_hands_on_the_exit_status(sbatch: Callable[[int], Path]):
    sbatch(3)
    assert launched("slurm", "digits").exit_code == 3


def test_mistakes_in_the_config_are_found_before_slurm_queues_it(sbatch: Callable[[int], Path]):
    noted = sbatch(0)
    result = launched("slurm", "digits", "learning.beta=fast")
    assert result.exit_code == 2
    assert result.stderr.startswith("override learning.beta=fast: learning.beta: expected a number")
    assert not noted.exists()


def test_without_slurm(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hamdist.launch.slurm.which", lambda name: None)
    result = launched("slurm", "digits")
    assert (result.exit_code, result.stderr) == (
        2,
        "there is no sbatch here: submit from a machine of the Slurm cluster\n",
    )


@pytest.mark.slow
def test_slurm_fails_where_nothing_ran(slurm: Callable[[str], subprocess.CompletedProcess[str]]):
    """symmetric-run ends with 0 where Ray did not start."""
    assert slurm("exit 0").returncode == 1


# Files of clusters


def test_files_of_clusters_are_no_examples():
    files = {path.name for path in CLUSTERS.glob("*.yaml")}
    assert files == {"aws.yaml", "kubernetes.yaml", "on-premises.yaml"}
    assert not {Path(name).stem for name in files} & set(examples.names())


@pytest.mark.parametrize("name", ["aws", "on-premises"])
def test_a_file_for_ray_up(name: str):
    """By Ray's own schema; and all nodes ask for the token, which is there before Ray starts."""
    (ray,) = find_spec("ray").submodule_search_locations
    schema = json.loads(Path(ray, "autoscaler", "ray-schema.json").read_text())
    config = yaml.safe_load((CLUSTERS / f"{name}.yaml").read_text())
    jsonschema.validate(config, schema)
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (start,) = [command for command in commands if "ray start" in command]
        assert "RAY_AUTH_MODE=token" in start.partition("ray start")[0]
    assert [target for target in config["file_mounts"] if target.endswith("/.ray/auth_token")]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][1]


def test_a_file_for_kuberay():
    config = yaml.safe_load((CLUSTERS / "kubernetes.yaml").read_text())
    assert (config["apiVersion"], config["kind"]) == ("ray.io/v1", "RayCluster")
    spec = config["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert f"ray=={spec['rayVersion']}" in (ROOT / "constraints.txt").read_text().split()
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    containers = [container for group in groups for container in group["template"]["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert all(
        container["resources"]["limits"] == container["resources"]["requests"] for container in containers
    )


# From the shell


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A folder of its own for whatever Ray and hamdist put down, with a path short enough for sockets."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with tempfile.TemporaryDirectory(prefix="hd-", dir="/tmp") as folder:
        yield os.environ | {"RAY_TMPDIR": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_over_actors_on_this_machine(tmp_path: Path, environment: dict[str, str]):
    layers = [
        {"name": "embed", "modules": [{"type": "Linear", "in_features": 64, "out_features": 4}]},
        {"name": "head", "modules": [{"type": "Linear", "in_features": 4, "out_features": 10}]},
    ]
    stream = {"source": "digits", "batch_size": 16, "samples": 96, "holdout": 0.5}
    document = {"name": "small", "stream": stream, "network": {"loss": "cross_entropy", "layers": layers}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(document))
    line = [sys.executable, "-m", "hamdist", "launch", "local", "small.yaml", "seed=3", "--actors", "2"]
    done = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=patient(540)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == ["status", "finished"]
    summary = json.loads((tmp_path / "runs" / "small" / "summary.json").read_text())
    assert (summary["actors"], summary["samples"], summary["samples_seen_once"]) == (2, 96, True)
    assert load(tmp_path / "runs" / "small" / "config.yaml").config.seed == 3
    assert list(Path(environment["TMPDIR"]).glob("hamdist-*")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "more"), [("local", ["--actors", "2"]), ("cluster", ["--address", "head:6379"])]
)
def test_ways_to_launch_are_scripts_too(tmp_path: Path, way: str, more: list[str]):
    """From any folder."""
    line = [sys.executable, str(ROOT / "launch" / f"{way}.py"), "no.yaml", *more]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=patient(240)
    )
    assert done.returncode == 2
    assert done.stderr.startswith("no.yaml: there is no such file")


def test_what_a_submitted_run_could_not_do_is_refused() -> None:
    for option in (["--predictions", "file"], ["--quiet"]):
        result = launched("cluster", "digits", "--submit", "--address", "http://there:8265", *option)
        assert result.exit_code == 2
        assert "are for runs that this command drives: leave out --submit" in result.stderr
