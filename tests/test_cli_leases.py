"""Jobs that run at once on one machine take a GPU each; found by GPUs that are made up."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from commands import SMALL, user_folder

from heatproof.base import lease
from heatproof.base.compose import compose
from heatproof.cli.jobs import own_gpu
from heatproof.stages.plan import Plan, make_plan


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two GPUs, and a store of their own."""
    monkeypatch.setenv("HEATPROOF_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HEATPROOF_CONF", str(user_folder(tmp_path / "conf")))
    ids = ["GPU-a", "GPU-b"]
    monkeypatch.setattr(lease, "gpu_ids", lambda: ids)
    return ids


def plan(*overrides: str) -> Plan:
    (job,) = compose([*SMALL, *overrides])
    return make_plan(job.config, job.overrides)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_at_once_have_different_gpus(launcher: str, gpus: list[str]) -> None:
    one = plan()
    with own_gpu(one, launcher) as first, own_gpu(one, launcher) as second:
        assert [first.compute.device, second.compute.device] == ["cuda:0", "cuda:1"]
        assert first.hash == one.hash
    with own_gpu(one, launcher) as again:
        assert again.compute.device == "cuda:0"


def test_a_third_job_waits(gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one = plan()
    with ExitStack() as first:
        first.enter_context(own_gpu(one, "joblib"))
        with own_gpu(one, "joblib"):
            monkeypatch.setattr(lease.time, "sleep", lambda _: first.close())
            with own_gpu(one, "joblib") as third:
                assert third.compute.device == "cuda:0"


@pytest.mark.parametrize(
    ("launcher", "overrides"),
    [("basic", ()), (None, ()), ("submitit_slurm", ()), ("joblib", ("device=cpu",)), ("joblib", ("stage=load",))],
)
def test_other_jobs_stay_where_they_are(launcher: str | None, overrides: tuple[str, ...], gpus: list[str]) -> None:
    one = plan(*overrides)
    with own_gpu(one, launcher) as same:
        assert same is one


def test_without_a_gpu_nobody_waits(gpus: list[str]) -> None:
    gpus.clear()
    one = plan()
    with own_gpu(one, "joblib") as first, own_gpu(one, "joblib") as second:
        assert first is second is one
