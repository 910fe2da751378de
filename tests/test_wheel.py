"""The wheel holds everything that a run needs and works where there is no repository."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="needs the repository")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of what git would hand out, so that nothing is left in the repository."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` of an environment with this wheel, that borrows all other packages from the running one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True, timeout=120)
    # A plain path, not a site folder: .pth files there, such as that of an editable heatproof, are not read.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert (site / "heatproof" / "flow.py").is_file()
    return folder / "bin"


def call(installed, folder, *arguments):
    keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    return subprocess.run(
        arguments, cwd=folder, env=keep | {"HEATPROOF_STORE": str(folder / "store")}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip


def test_every_yaml_and_template_is_inside(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {
        f"heatproof/conf/{path.relative_to(ROOT / 'conf').as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")
    }
    package = {
        f"heatproof/{path.relative_to(ROOT / 'src' / 'heatproof').as_posix()}"
        for path in (ROOT / "src" / "heatproof").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(shipped) > 20
    assert shipped | package <= names
    assert not [name for name in names if name.startswith(("tests", "scripts"))]


def test_package_and_config_come_from_the_wheel(installed, tmp_path):
    code = "import heatproof, heatproof.base.registry as r; print(heatproof.__file__, r.conf_folder())"
    answer = call(installed, tmp_path, str(installed / "python"), "-c", code)
    assert answer.returncode == 0, answer.stderr
    assert all(path.startswith(str(installed.parent)) for path in answer.stdout.split())


def test_help_and_plan_work_outside_the_repository(installed, tmp_path):
    shown = call(installed, tmp_path, str(installed / "heatproof"), "--help")
    assert shown.returncode == 0, shown.stderr
    assert "explainer" in shown.stdout
    planned = call(installed, tmp_path, str(installed / "heatproof"), "stage=plan", "explainer=[gradcam]")
    assert planned.returncode == 0, planned.stderr
    assert "gradcam:robustcam6.mean" in planned.stdout
    refused = call(installed, tmp_path, str(installed / "heatproof"), "model=small_cmm")
    assert refused.returncode == 2
    assert "small_cnn" in refused.stdout + refused.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_small_run_outside_the_repository(installed, tmp_path):
    small = ["dataset.n=60", "train.epochs=1", "eval.images=4", "metrics=[localisation]", "views=none", "device=cpu"]
    answer = call(installed, tmp_path, str(installed / "heatproof"), *small)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (tmp_path / "results" / "latest" / "report.html").is_file()
    assert (tmp_path / "mlruns" / "mlflow.db").is_file()
