"""Several senders on one MLflow server whose store is a real PostgreSQL."""

import importlib.util
import multiprocessing
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from heatproof.base.outbox import Outbox
from heatproof.stages.track import send

pytestmark = pytest.mark.slow
PROGRAMS = ("initdb", "postgres")


def program(name: str) -> str | None:
    """A program of PostgreSQL: distributions keep them beside each other, off the PATH."""
    beside = [str(path.parent) for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(sorted(beside, reverse=True)))


def missing() -> list[str]:
    """What is not installed of what this needs."""
    found = [name for name in PROGRAMS if program(name) is None]
    if importlib.util.find_spec("psycopg") is None:
        found.append("psycopg (pip install 'heatproof[postgres]')")
    return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a new PostgreSQL that nothing but this test uses."""
    if missing():
        pytest.skip(f"not installed: {', '.join(missing())}")
    folder = tmp_path_factory.mktemp("postgres")
    user: dict[str, object] = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        account = pwd.getpwnam("postgres")
        user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": "/"}
        for path in (folder, *folder.parents[:2]):
            path.chmod(0o755)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data, port = folder / "data", free_port()
    make = [program("initdb"), "-D", str(data), "-U", "mlflow", "-A", "trust", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, **user)
    run = [program("postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
    server = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < until
                assert server.poll() is None
                time.sleep(0.1)
        yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server on that database."""
    port, artifacts = free_port(), tmp_path_factory.mktemp("artifacts")
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--port", str(port),
               "--artifacts-destination", str(artifacts), "--workers", "1"]  # fmt: skip
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def deliver(root: Path, number: int, uri: str) -> None:
    folder = root / str(number)
    folder.mkdir()
    (folder / "report.html").write_text("<p>")
    outbox = Outbox(folder)
    outbox.begin("team", f"run {number}", {"seed": number}, {"plan_hash": "abc"})
    outbox.metrics({f"gradcam/metric_{i}": i / 7 for i in range(1500)})
    outbox.artifact("report.html")
    outbox.finish("FINISHED")
    for _ in range(2):  # nothing is sent twice
        assert not send([folder], tracking_uri=uri).failed


def test_four_senders_at_once(server: str, tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("spawn").Process(target=deliver, args=(tmp_path, number, server))
                 for number in range(4)]  # fmt: skip
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * 4
    from mlflow import MlflowClient

    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("team")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in found) == [f"run {number}" for number in range(4)]
    for run in found:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["gradcam/metric_1499"] == 1499 / 7
        assert len(client.get_metric_history(run.info.run_id, "gradcam/metric_7")) == 1
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]
