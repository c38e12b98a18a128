"""A loop that another thread can end in the midst of what it does: of a compilation, or a layer that takes long."""

import ctypes
import threading
from types import TracebackType

GRACE_SECONDS = 1.0  # for it to end by itself


class LoopBrokenError(KeyboardInterrupt):
    """It was ended by another thread; like Ctrl-C, no code between takes it for an error of its own."""


class Breakable:
    """Around the loop; only code in Python can be left, and only between two of its instructions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: int | None = None
        self._entered = 0  # how often

    def __enter__(self) -> None:
        with self._lock:
            self._entered += 1
            self._inside = threading.get_ident()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside = None

    def break_soon(self) -> None:
        """Unless it ends by itself."""
        if self._inside is not None and self._inside != threading.get_ident():
            timer = threading.Timer(GRACE_SECONDS, self._break, (self._entered,))
            timer.daemon = True
            timer.start()

    def _break(self, entered: int) -> None:
        """Unless it has ended meanwhile, and another has begun."""
        with self._lock:
            if self._inside is not None and self._entered == entered:
                raised = ctypes.py_object(LoopBrokenError)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._inside), raised)
