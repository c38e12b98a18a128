"""What travels to nodes that join by address: hamdist, and the code of the current folder."""

from pathlib import Path

import pytest

import hamdist
from hamdist.cluster.session import keep_private, shipment


def test_a_token_that_others_can_read_is_made_private(tmp_path: Path):
    token = tmp_path / "auth_token"
    keep_private(token)  # there is none
    assert not token.exists()
    token.write_text("secret")
    token.chmod(0o644)
    keep_private(token)
    assert token.stat().st_mode & 0o777 == 0o600


def code_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


def test_all_of_hamdist_travels_and_of_the_current_folder_all_code_but_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("layers.py", "models/runs/loop.py", "runs/digits/left.py", ".venv/pip.py"):
        file = tmp_path / "here" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path / "here")
    with shipment() as code:
        assert code_in(Path(code["working_dir"])) == {"layers.py", "models/runs/loop.py"}
        (package,) = code["py_modules"]
        assert code_in(Path(package)) == code_in(Path(hamdist.__file__).parent)
