"""A delivery by a process that was made ready before: the same as one without, whatever becomes of the process."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from heatproof.base.outbox import Outbox
from heatproof.stages.track import Courier, courier, send


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of a finished run, to be sent to a store beside them."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    folder = tmp_path / "run"
    outbox = Outbox(folder)
    outbox.begin("bench", "one", {"seed": 1}, {"plan_hash": "abc"})
    outbox.metrics({"gradcam/faith": 0.25})
    outbox.finish("FINISHED")
    return folder


def sent_once(folder: Path, sent: courier.Sent) -> None:
    """All of it is in the store, and a second delivery finds it there."""
    assert not sent.failed
    assert list(sent.runs) == [folder]
    assert send([folder]).runs == sent.runs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from mlflow import MlflowClient

        client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
        (run,) = client.search_runs([client.get_experiment_by_name("bench").experiment_id])
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"gradcam/faith": 0.25})


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("deadly", [False, True], ids=["lives", "dies"])
def test_what_it_sends_is_there_once(folder: Path, deadly: bool) -> None:
    made = Courier()
    made.start()
    made.start()
    assert made._process is not None
    pid = made._process.pid
    if deadly:
        made._process.kill()
    sent_once(folder, made.send([folder]))
    assert not alive(pid)


def test_without_a_process_it_sends_by_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    made = Courier()
    made.start()
    assert made._process is None
    sent_once(folder, made.send([folder]))


def test_an_interruption_while_it_sends_stops_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Courier()
    made.start()
    process = made._process
    assert process is not None
    real = process.communicate

    def interrupted(*order: str) -> tuple[str, str]:
        if order:
            raise KeyboardInterrupt
        return real()

    monkeypatch.setattr(process, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made.send([folder])
    assert not alive(process.pid)


def test_it_ends_with_its_run(folder: Path) -> None:
    """Also where the run is killed, and then it has sent nothing."""
    text = (
        "import time; from heatproof.stages.track import Courier; c = Courier(); c.start(); "
        "print(c._process.pid, flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert alive(pid)
        run.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert not Outbox(folder).state()
