"""Sweeps by existing engines: jobs at once on one machine, on a cluster, jobs whose process dies."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import SMALL, environment, user_folder
from slurm import stand_in

from heatproof.base.outbox import Outbox


@pytest.fixture(scope="module")
def deadly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder whose broken data set kills the process that reads it."""
    folder = user_folder(tmp_path_factory.mktemp("conf"))
    code = (folder / "blobs.py").read_text()
    killing = code.replace('raise RuntimeError("the disk is gone")', "import os; os.kill(os.getpid(), 9)")
    assert killing != code
    (folder / "blobs.py").write_text(killing)
    return folder


def swept(work: Path, user: Path, *arguments: str, more: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    (work / "here").mkdir()
    command = [sys.executable, "-m", "heatproof", "-m", *SMALL, *arguments]
    env = {**environment(work, user), **(more or {})}
    return subprocess.run(command, cwd=work / "here", env=env, capture_output=True, text=True, timeout=600)


def states(work: Path) -> list[str]:
    sweep = (work / "here" / "results" / "latest").resolve()
    jobs = sorted((path for path in sweep.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    return [Outbox(folder).read().status for folder in [sweep, *jobs]]


def test_a_launcher_that_fails_is_told_in_one_message(tmp_path: Path) -> None:
    user = user_folder(tmp_path / "conf")
    done = swept(tmp_path, user, "seed=1,2", "hydra/launcher=submitit_slurm")  # and there is no Slurm
    assert done.returncode == 2, done.stderr
    assert "hydra/launcher: no job failed, but the launcher did: " in done.stderr
    assert "Traceback" not in done.stderr
    sweep = (tmp_path / "here" / "results" / "latest").resolve()
    assert "Traceback" in (sweep / "launcher.log").read_text()
    assert Outbox(sweep).read().status == "FAILED"


@pytest.mark.slow
def test_joblib_runs_two_jobs_at_once(tmp_path: Path) -> None:
    user = user_folder(tmp_path / "conf")
    done = swept(tmp_path, user, "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    sweep = (tmp_path / "here" / "results" / "latest").resolve()
    one, two = (Outbox(sweep / str(number)).read() for number in range(2))
    assert one.end_time is not None
    assert two.end_time is not None
    assert max(one.start_time, two.start_time) < min(one.end_time, two.end_time)
    assert "2 seeds" in (sweep / "sweep.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_slurm", "submitit_local"])
def test_a_job_that_dies_is_told_and_the_others_finish(launcher: str, tmp_path: Path, deadly: Path) -> None:
    more = stand_in(tmp_path / "slurm") if launcher == "submitit_slurm" else {}
    done = swept(tmp_path, deadly, "dataset.broken=false,true", f"hydra/launcher={launcher}", more=more)
    assert done.returncode == 1
    assert "   0  FINISHED     dataset.broken=False" in done.stdout
    assert "   1  KILLED       dataset.broken=True\n      its process died\n      see " in done.stdout
    assert states(tmp_path) == ["FAILED", "FINISHED", "KILLED"]
    page = (tmp_path / "here" / "results" / "latest" / "sweep.html").read_text()
    assert "its process died" in page
    if launcher == "submitit_slurm":
        script = (tmp_path / "slurm" / "captured.sh").read_text()
        assert "#SBATCH --array=0-1%" in script
        assert "srun " in script


@pytest.mark.slow
def test_a_worker_of_joblib_that_dies_is_told(tmp_path: Path, deadly: Path) -> None:
    done = swept(
        tmp_path, deadly, "dataset.broken=true,false", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"
    )  # fmt: skip
    assert done.returncode == 1
    assert "   0  KILLED       dataset.broken=True\n      its process died" in done.stdout
    assert states(tmp_path)[0] == "FAILED"
