"""A test that runs past its limit fails by name, and all others run; each suite here is one of its own, over xdist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.patience import patient

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parent
LOOPS = """
@pytest.mark.timeout(0.5)
def test_loops():
    while True:
        pass
"""
# Nobody hears the alarm: no thread of the process takes it, or all of them wait for Python's lock.
DEAF = """
@pytest.mark.timeout(0.5)
def test_deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    threading.Event().wait()
"""
HOLDS_THE_LOCK = """
@pytest.mark.timeout(0.5)
def test_holds_the_lock():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    ctypes.PyDLL(None).sleep(1_000_000)
"""
DEAF_AFTER_A_FAILURE = """
@pytest.fixture
def endless():
    yield
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    threading.Event().wait()


@pytest.mark.timeout(0.5)
def test_fails_and_then_is_deaf(endless):
    raise ValueError("its own failure")
"""
PASSES = "def test_{}():\n    pass\n"
HEAD = "import ctypes\nimport signal\nimport threading\n\nimport pytest\n\n"


def suite(folder: Path, workers: int, **files: list[str]) -> tuple[dict[str, set[str]], str]:
    """The outcomes of a suite, by name, and what was printed; files: their tests, or names of some that pass.

    Limits are twice as long as their marks say, and a process that is past one is ended a second later.
    """
    (folder / "conftest.py").write_text('pytest_plugins = ["support.limits"]\n')
    (folder / "pytest.ini").write_text("[pytest]\ntimeout_grace = 0.5\ntimeout_method = signal\n")
    for name, tests in files.items():
        bodies = [test if "\n" in test else PASSES.format(test) for test in tests]
        (folder / f"test_{name}.py").write_text(HEAD + "\n\n".join(bodies))
    options = [
        "--dist",
        "loadfile",
        "--no-loadscope-reorder",
        "--timeout",
        "600",
        "-rA",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", str(workers), *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SUPPORT), "HAMDIST_TEST_PATIENCE": "2"},
        capture_output=True,
        text=True,
        timeout=patient(240),
    )
    printed = done.stdout + done.stderr
    outcomes: dict[str, set[str]] = {}
    for outcome, name in re.findall(
        r"^(PASSED|FAILED|ERROR) test_(\w+\.py::test_\w+)", printed, re.MULTILINE
    ):
        outcomes.setdefault(outcome, set()).add(name.replace(".py::test_", " "))
    assert done.returncode == ("PASSED" not in outcomes or len(outcomes) > 1), printed
    return outcomes, printed


def test_a_loop_in_python_is_ended_by_a_signal_and_its_process_goes_on(tmp_path: Path):
    outcomes, printed = suite(tmp_path, 1, first=["before", LOOPS, "after"], second=["other"])
    assert outcomes == {
        "PASSED": {"first before", "first after", "second other"},
        "FAILED": {"first loops"},
    }, printed
    assert "Timeout (>1.0s) from pytest-timeout" in printed
    assert "crashed" not in printed
    assert "1 failed, 3 passed" in printed


@pytest.mark.parametrize(
    ("body", "name"),
    [(DEAF, "deaf"), (HOLDS_THE_LOCK, "holds_the_lock")],
    ids=["no thread hears it", "Python's lock is held"],
)
def test_a_wait_that_hears_no_signal_ends_its_process_and_another_goes_on(
    tmp_path: Path, body: str, name: str
):
    outcomes, printed = suite(
        tmp_path, 2, first=["before", body, "after", "last"], second=["other"], third=["one"]
    )
    passed = {"first before", "first after", "first last", "second other", "third one"}
    assert outcomes == {"PASSED": passed, "FAILED": {f"first {name}"}}, printed
    assert re.search(rf"worker 'gw\d' crashed while running 'test_first.py::test_{name}'", printed)
    assert f"in test_{name}" in printed  # the traceback that it left
    assert "1 failed, 5 passed" in printed


SEVERAL = {"first": [DEAF, HOLDS_THE_LOCK, "one"], "second": [DEAF, "two"], "third": ["three"]}


@pytest.mark.parametrize(
    ("workers", "files"),
    [
        (1, {"first": ["one"], "second": [DEAF], "third": ["three"]}),
        (1, {"first": ["one", "two"], "second": ["three", DEAF, "four"]}),
        (2, {"first": [DEAF]}),
        (1, SEVERAL),
        (2, SEVERAL),
    ],
    ids=["alone in its file", "before the very last", "the only one", "several", "several at once"],
)
def test_wherever_it_happens_all_others_run(tmp_path: Path, workers: int, files: dict[str, list[str]]):
    outcomes, printed = suite(tmp_path, workers, **files)
    named = {DEAF: "deaf", HOLDS_THE_LOCK: "holds_the_lock"}
    everything = {
        f"{file} {named.get(test, test)}": test in named for file, tests in files.items() for test in tests
    }
    assert outcomes.get("FAILED") == {name for name, fails in everything.items() if fails}, printed
    assert outcomes.get("PASSED", set()) == {name for name, fails in everything.items() if not fails}, printed


def test_what_hangs_after_a_failure_is_ended_too(tmp_path: Path):
    outcomes, printed = suite(tmp_path, 1, first=[DEAF_AFTER_A_FAILURE, "after"])
    assert outcomes["PASSED"] == {"first after"}, printed
    assert outcomes["FAILED"] == {"first fails_and_then_is_deaf"}
    assert "its own failure" in printed
    assert "crashed while running 'test_first.py::test_fails_and_then_is_deaf'" in printed
