"""Folders that stand for those of sessions: of ours that are over, the newest stay, and of others all."""

import os
from pathlib import Path

from hamdist.cluster.session_folders import KEPT, MARK, prune_sessions

NOBODY = 2**22 + 1  # more than any process has


def test_of_sessions_that_are_over_the_newest_stay(tmp_path: Path) -> None:
    for number in range(KEPT + 4):
        folder = tmp_path / f"session_2026-01-01_00-00-{number:02d}_1"
        (folder / "logs").mkdir(parents=True)
        if number == 1:
            continue  # somebody else's
        (folder / MARK).write_text(str(os.getpid() if number == 2 else NOBODY))
    (tmp_path / "session_latest").symlink_to(tmp_path / f"session_2026-01-01_00-00-{KEPT + 3:02d}_1")
    prune_sessions(tmp_path)
    left = {path.name[-4:-2] for path in tmp_path.glob("session_2*")}
    assert left == {f"{number:02d}" for number in (1, 2, *range(4, KEPT + 4))}
    assert (tmp_path / "session_latest").exists()
