"""How long tests wait for what must come: against hanging, not against slowness.

HAMDIST_TEST_PATIENCE in the environment, 1 by default, stretches all of it on a machine that is slow or busy.
"""

import os

FACTOR = float(os.environ.get("HAMDIST_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """A limit of so many seconds, stretched."""
    return FACTOR * seconds
