"""What tests on Ray share."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hamdist.cluster.session import prepare_environment


@pytest.fixture(scope="module")
def one_ray() -> Iterator[Path]:
    """A Ray of two cores on this machine, the same for all tests of a file; the folder for what its workers keep for a
    while, such as sockets, which is nobody else's."""
    prepare_environment()
    import ray

    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TMPDIR", str(folder))
        ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield folder
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
