"""What tests on Ray share."""

from collections.abc import Iterator

import pytest

from hamdist.cluster.session import prepare_environment


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """A Ray of two cores on this machine, the same for all tests of a file."""
    prepare_environment()
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield
    ray.shutdown()
