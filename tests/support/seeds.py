"""One case for what must hold of whatever is drawn."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

Test = Callable[..., None]


def over_seeds(count: int) -> Callable[[Test], Test]:
    """Runs a test with each `seed` below `count`, one after another; what fails says with which."""

    def over(test: Test) -> Test:
        @wraps(test)
        def with_every_seed(**others: Any) -> None:
            for seed in range(count):
                try:
                    test(seed=seed, **others)
                except BaseException as failure:
                    failure.add_note(f"with seed {seed}")
                    raise

        signature = inspect.signature(test)
        left = [parameter for name, parameter in signature.parameters.items() if name != "seed"]
        with_every_seed.__signature__ = signature.replace(parameters=left)  # the rest is pytest's to fill in
        return with_every_seed

    return over
