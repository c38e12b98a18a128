"""Moments in which no signal may come in between: Ctrl-C and SIGTERM wait until they are over."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_wait() -> Iterator[None]:
    """Within it this thread hears none of them, nor do threads that are started within it, ever.

    The main thread hears at the end what has come meanwhile.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
