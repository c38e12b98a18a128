"""What is sent with a job: the config in a package of its own, hamdist, and the Python of the current folder."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hamdist.cluster.session import AUTH_MODE, shipment
from hamdist.runs.record import CONFIG

CONFIG_PACKAGE = "hamdist_submission"
STOPPED_SECONDS = 120  # for a run that is stopped to drain and to send what it has


@contextmanager
def job_environment(config: str) -> Iterator[dict[str, Any]]:
    """The runtime environment of a job that runs the config, a YAML text, to be handed over within.

    Beside the code there are a package with the config in it, and what an installed hamdist knows of its version.
    """
    installed = f"hamdist-{version('hamdist')}.dist-info"
    with TemporaryDirectory() as folder, shipment() as code:
        config_package = folder_of(Path(folder, CONFIG_PACKAGE), {"__init__.py": "", CONFIG: config})
        metadata = folder_of(
            Path(folder, installed), {"METADATA": f"Name: hamdist\nVersion: {version('hamdist')}\n"}
        )
        yield {
            **code,
            "py_modules": [*code["py_modules"], config_package, metadata],
            "env_vars": {
                AUTH_MODE: os.environ[AUTH_MODE],
                "RAY_JOB_STOP_WAIT_TIME_S": str(STOPPED_SECONDS),
            },
        }


def folder_of(folder: Path, files: Mapping[str, str]) -> str:
    """A new folder with these texts in files of these names."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return str(folder)
