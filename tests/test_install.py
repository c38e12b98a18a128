"""What is installed, as a wheel and as a checkout, brings all that is no code: examples, digits, the Slurm script."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.name for path in (ROOT / "cluster_configs").glob("*.yaml"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without a network."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    line = [sys.executable, "-m", "pip", "wheel", str(ROOT), *options, "--wheel-dir", str(folder)]
    built = subprocess.run(line, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


def python(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in an empty folder, so that nothing is found because it lies there."""
    folder.mkdir()
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


def test_the_wheel_brings_what_is_needed(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert EXAMPLES
    assert {f"hamdist/cluster_configs/{name}" for name in EXAMPLES} <= names
    assert {"hamdist/py.typed", "hamdist/streams/digits.npz", "hamdist/launch/slurm.sbatch"} <= names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"hamdist"}


def test_the_wheel_works_by_itself(wheel: Path, tmp_path: Path):
    """Unpacked and first on the path, so that it is imported and not the checkout."""
    unpacked = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    where = python(tmp_path / "a", "-c", "import hamdist; print(hamdist.__file__)", PYTHONPATH=str(unpacked))
    assert where.stdout.strip() == str(unpacked / "hamdist" / "__init__.py")
    done = python(tmp_path / "b", "-m", "hamdist", "check", "digits", PYTHONPATH=str(unpacked))
    assert (done.returncode, done.stdout, done.stderr) == (0, "digits: no problems found\n", "")


@pytest.mark.timeout(90)
@pytest.mark.parametrize("installed", [True, False], ids=["wheel", "checkout"])
def test_the_slurm_script_is_found(wheel: Path, tmp_path: Path, installed: bool):
    """Beside the package in a checkout, within it in a wheel; word for word the same."""
    site = tmp_path / "site" if installed else ROOT
    if installed:
        zipfile.ZipFile(wheel).extractall(site)
    code = "from hamdist.launch.slurm import batch_script; print(batch_script())"
    found = python(tmp_path / "a", "-c", code, PYTHONPATH=str(site)).stdout.strip()
    assert found == str(site / ("hamdist" if installed else "") / "launch" / "slurm.sbatch")
    assert Path(found).read_bytes() == (ROOT / "launch" / "slurm.sbatch").read_bytes()


def test_a_checkout_works_from_any_folder(tmp_path: Path):
    done = python(tmp_path / "a", "-m", "hamdist", "check", "phishing", PYTHONPATH=str(ROOT))
    assert (done.returncode, done.stdout, done.stderr) == (0, "phishing: no problems found\n", "")


def test_the_entry_point_is_installed(tmp_path: Path):
    """The command itself, as `pip install -e .` made it, without help from the path."""
    command = Path(sys.executable).with_name("hamdist")
    if not command.exists():
        pytest.skip("hamdist is not installed in this environment")
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [command, "--version"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "hamdist")
