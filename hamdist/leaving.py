"""A program that Ctrl-C and SIGTERM end at once, with a line: until something is under way that they might break.

Imports little, so that a program listens before it has loaded anything.
"""

import atexit
import os
import signal
from types import FrameType
from typing import NoReturn

from hamdist.signal_mask import ENDING

NAMES: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"  # in the place of a line that moves


def leave_on_signals() -> None:
    """From now on Ctrl-C and SIGTERM end the program at once, with a line, unless something is `interruptible`; when
    the interpreter ends, they come too late."""
    for number in ENDING:
        signal.signal(number, _leave)
    atexit.register(_ignore_signals)


def _ignore_signals() -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """Not by an exception: that would come in the midst of an import, or be lost there."""
    os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}{NAMES[number]}\n".encode())
    os._exit(128 + number)
