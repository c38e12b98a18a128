"""What local Rays that were started here leave on the disk: logs, a folder a session, of which the newest few stay.

Ray itself never removes one. Those of clusters that somebody else has started bear no mark, and are left alone.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

KEPT = 8
MARK = "started-by-hamdist"  # a file in such a folder, which says by which process


def mark_session() -> None:
    """The session of the Ray that runs here is one of ours; the oldest of them go."""
    from ray._private.worker import _global_node

    if _global_node is not None:
        folder = Path(_global_node.get_session_dir_path())
        with suppress(OSError):
            (folder / MARK).write_text(str(os.getpid()))
            prune_sessions(folder.parent)


def prune_sessions(folder: Path) -> None:
    """Leaves the newest, and those whose process lives. Raises OSError where the folder cannot be read."""
    ours = sorted(path.parent for path in folder.glob(f"session_*/{MARK}") if not path.parent.is_symlink())
    for old in ours[:-KEPT]:
        if not _lives(old):
            shutil.rmtree(old, ignore_errors=True)


def _lives(session: Path) -> bool:
    """Whether the process that has started it is there; the number may be another's by now, which does no harm."""
    return Path("/proc", (session / MARK).read_text()).exists()
