"""The time limits of tests, as a plugin of pytest: whichever a test runs into, it fails by name and the others go on.

The first is pytest-timeout's: a signal, which ends whatever Python does. A wait in C may hear no signal: the second,
`timeout_grace` seconds later, ends the process with a traceback of every thread, also one that holds Python's lock, and
xdist goes on with another process. Marks and the suite's own limit are stretched by the patience of the environment.
"""

import faulthandler
import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.patience import patient
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

STDERR = pytest.StashKey[int]()  # a descriptor of it that nothing captures


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("timeout_grace", "seconds from a test's limit until its process is ended", default="60")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before pytest-timeout looks: what the command line says is not stretched."""
    if config.option.timeout is None:
        config.option.timeout = patient(float(config.getini("timeout") or 0))
    config.stash[STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[STDERR])


def pytest_itemcollected(item: pytest.Item) -> None:
    mark = item.get_closest_marker("timeout")
    if mark is not None:
        item.add_marker(pytest.mark.timeout(patient(*mark.args)), append=False)


# The second limit. Of each phase anew: a failure in one ends all limits that were set before it.


def _limited(item: pytest.Item) -> Iterator[None]:
    mark = item.get_closest_marker("timeout")
    first = item.config.option.timeout if mark is None else mark.args[0]
    if first:
        grace = patient(float(item.config.getini("timeout_grace")))
        faulthandler.dump_traceback_later(first + grace, exit=True, file=item.config.stash[STDERR])
    yield
    faulthandler.cancel_dump_traceback_later()


pytest_runtest_setup = pytest.hookimpl(hookwrapper=True, tryfirst=True)(_limited)
pytest_runtest_call = pytest.hookimpl(hookwrapper=True, tryfirst=True)(_limited)
pytest_runtest_teardown = pytest.hookimpl(hookwrapper=True, tryfirst=True)(_limited)


# Going on


class FilesWhateverDies(LoadFileScheduling):
    """Gives workers whole files, and where a worker dies the rest of its files to others.

    xdist 3.8 gives out with them the test that it died of, which kills the next worker too, and the files that it had
    done, in which others find nothing to do and wait for ever.
    """

    def remove_node(self, node: WorkerController) -> str | None:
        """The test that a worker died of, if it did; it counts as done."""
        files = self.assigned_work.pop(node)
        left = [(tests, name) for tests in files.values() for name, done in tests.items() if not done]
        if not left:
            return None
        tests, died_of = left[0]
        tests[died_of] = True
        self.workqueue.update({file: tests for file, tests in files.items() if not all(tests.values())})
        for other in self.assigned_work:
            self._reschedule(other)
        return died_of

    def _reschedule(self, node: WorkerController) -> None:
        """A worker runs a test only when it has the next one, or knows that there is none."""
        if node not in self.registered_collections:
            return  # it is looking for its tests, and comes again
        super()._reschedule(node)
        while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return FilesWhateverDies(config, log) if config.getvalue("dist") == "loadfile" else None
