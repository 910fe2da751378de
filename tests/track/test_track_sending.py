"""Delivery to a real MLflow store: all of it, once, whatever happens in between."""

import math
import multiprocessing
import os
import shlex
import shutil
import time
import warnings
from pathlib import Path

import pytest
from filelock import FileLock

from heatproof.base.outbox import Outbox, recorded
from heatproof.stages.track import address, noted_as_sent, send, ui_command
from heatproof.stages.track.sending import PARAM_LENGTH, legal_names, shortened


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A store that has been made once: making one takes seconds, copying it nothing."""
    root = tmp_path_factory.mktemp("store")
    make_run(root / "run", experiment="warm-up")
    uri = f"sqlite:///{root}/mlruns/mlflow.db"
    assert not send([root / "run"], tracking_uri=uri).failed
    return root / "mlruns" / "mlflow.db"


@pytest.fixture
def uri(tmp_path, empty_store):
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlruns/mlflow.db"


def client(uri):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from mlflow import MlflowClient

        return MlflowClient(uri)


def runs(uri, experiment):
    found = client(uri).get_experiment_by_name(experiment)
    return client(uri).search_runs([found.experiment_id]) if found else []


def make_run(folder: Path, *, experiment="phantom", status="FINISHED", parent=None, start=1000, end=5000) -> Outbox:
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "metrics.csv").write_text("a,b\n")
    (folder / "report.html").write_text("<p>")
    outbox = Outbox(folder)
    outbox.begin(experiment, folder.name, {"seed": 1}, {"plan_hash": "abc"}, start_time=start, parent=parent)
    for epoch in range(3):
        outbox.metrics({"train/loss": 1.0 / (epoch + 1)}, step=epoch + 1)
    outbox.metrics({"gradcam:robustcam6.mean/faith": 0.25, "gradcam/loc_acc": math.nan})
    outbox.artifact("tables", "tables")
    outbox.artifact("report.html")
    if status != "RUNNING":
        outbox.finish(status, end_time=end, error_text="Traceback: boom" if status == "FAILED" else None)
    return outbox


def artifacts(uri, run_id):
    found = []
    todo = [""]
    while todo:
        for entry in client(uri).list_artifacts(run_id, todo.pop() or None):
            if entry.is_dir:
                todo.append(entry.path)
            else:
                found.append(entry.path)
    return sorted(found)


def test_round_trip(tmp_path, uri):
    make_run(tmp_path / "one")
    sent = send([tmp_path / "one"], tracking_uri=uri)
    assert not sent.failed
    (run,) = runs(uri, "phantom")
    assert sent.runs == {tmp_path / "one": run.info.run_id}
    assert (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time) == (
        "one",
        "FINISHED",
        1000,
        5000,
    )
    assert run.data.params == {"seed": "1"}
    assert run.data.tags["plan_hash"] == "abc"
    assert run.data.metrics["gradcam:robustcam6.mean/faith"] == 0.25
    assert math.isnan(run.data.metrics["gradcam/loc_acc"])
    history = client(uri).get_metric_history(run.info.run_id, "train/loss")
    assert sorted((m.step, m.value) for m in history) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert artifacts(uri, run.info.run_id) == ["report.html", "tables/metrics.csv"]
    assert run.info.artifact_uri.startswith((tmp_path / "mlruns" / "artifacts").as_uri())


def test_second_delivery_changes_nothing(tmp_path, uri):
    make_run(tmp_path / "one")
    first = send([tmp_path / "one"], tracking_uri=uri)
    second = send([tmp_path / "one", tmp_path / "one"], tracking_uri=uri)
    assert first.runs == second.runs
    (run,) = runs(uri, "phantom")
    assert len(client(uri).get_metric_history(run.info.run_id, "train/loss")) == 3


class Killed(BaseException):
    """Ends a delivery at once, as a kill would: nothing catches it."""


def test_delivery_killed_at_any_step_is_completed(tmp_path, uri, monkeypatch):
    from mlflow import MlflowClient

    steps = ("create_run", "log_batch", "log_artifact", "log_artifacts", "set_terminated", "create_experiment")
    kills = 0
    for after in (False, True):
        for count in range(50):
            folder = tmp_path / f"run-{after}-{count}"
            make_run(folder, experiment=folder.name, parent=tmp_path / f"sweep-{after}-{count}")
            left = [count]

            def deadly(name, *, left=left, after=after):
                original = getattr(MlflowClient, name)

                def call(self, *args, **settings):
                    left[0] -= 1
                    if left[0] == -1 and not after:
                        raise Killed
                    answer = original(self, *args, **settings)
                    if left[0] == -1:
                        raise Killed
                    return answer

                return call

            with monkeypatch.context() as patch:
                for name in steps:
                    patch.setattr(MlflowClient, name, deadly(name))
                try:
                    send([folder], tracking_uri=uri)
                    break
                except Killed:
                    kills += 1
            assert not send([folder], tracking_uri=uri).failed
            found = runs(uri, folder.name)
            (run,) = [r for r in found if r.info.run_name == folder.name]
            (parent,) = [r for r in found if r.info.run_id != run.info.run_id]
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert (run.info.status, parent.info.status) == ("FINISHED", "FINISHED")
            assert len(client(uri).get_metric_history(run.info.run_id, "train/loss")) == 3
            assert run.data.params == {"seed": "1"}
            assert artifacts(uri, run.info.run_id) == ["report.html", "tables/metrics.csv"]
    assert kills >= 16


def test_what_is_noted_as_sent_is_known_without_the_store(tmp_path, uri):
    outbox = make_run(tmp_path / "one")
    assert noted_as_sent(tmp_path / "one", tracking_uri=uri) is None
    sent = send([tmp_path / "one"], tracking_uri=uri)
    assert noted_as_sent(tmp_path / "one", tracking_uri=uri) == sent
    assert noted_as_sent(tmp_path / "one", tracking_uri="http://elsewhere") is None
    outbox.metrics({"later": 1.0})
    assert noted_as_sent(tmp_path / "one", tracking_uri=uri) is None


def test_server_that_is_down_keeps_the_outbox(tmp_path, uri):
    for name in ("one", "two"):
        make_run(tmp_path / name)
    down = send([tmp_path / "one", tmp_path / "two"], tracking_uri="http://me:secret@127.0.0.1:9")
    assert set(down.failed) == {tmp_path / "one", tmp_path / "two"}
    assert not down.runs
    assert down.message.count("does not answer") == 1
    assert "secret" not in down.message + down.uri
    assert not send([tmp_path / "one", tmp_path / "two"], tracking_uri=uri).failed
    assert len(runs(uri, "phantom")) == 2


def test_locked_store_is_reported(tmp_path, uri):
    make_run(tmp_path / "one")
    with FileLock(tmp_path / "mlruns" / "mlflow.db.lock"):
        sent = send([tmp_path / "one"], tracking_uri=uri, lock_seconds=0.1)
    assert "another process has held the store" in sent.failed[tmp_path / "one"]


def test_broken_store_is_reported(tmp_path):
    make_run(tmp_path / "one")
    (tmp_path / "mlflow.db").write_text("this is no database, and it is long enough to be looked at " * 50)
    sent = send([tmp_path / "one"], tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert set(sent.failed) == {tmp_path / "one"}


def test_one_bad_outbox_does_not_stop_the_others(tmp_path, uri):
    make_run(tmp_path / "one")
    make_run(tmp_path / "two")
    (tmp_path / "one" / "outbox" / "run.json").write_text("{")
    sent = send([tmp_path / "one", tmp_path / "two", tmp_path / "nothing-here"], tracking_uri=uri)
    assert set(sent.failed) == {tmp_path / "one"}
    assert set(sent.runs) == {tmp_path / "two"}


def test_failed_run_reads_failed_with_its_traceback(tmp_path, uri):
    make_run(tmp_path / "one", status="FAILED")
    send([tmp_path / "one"], tracking_uri=uri)
    (run,) = runs(uri, "phantom")
    assert run.info.status == "FAILED"
    assert "traceback.txt" in artifacts(uri, run.info.run_id)


def test_running_run_is_shown_and_completed_later(tmp_path, uri):
    with recorded(tmp_path / "one", experiment="phantom", run_name="one", params={}, tags={}) as outbox:
        outbox.metrics({"a": 1})
        send([tmp_path / "one"], tracking_uri=uri)
        assert [run.info.status for run in runs(uri, "phantom")] == ["RUNNING"]
        outbox.metrics({"b": 2})
    send([tmp_path / "one"], tracking_uri=uri)
    (run,) = runs(uri, "phantom")
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [(("FINISHED", "FINISHED"), "FINISHED"), (("FINISHED", "FAILED"), "FAILED"), (("FAILED", "KILLED"), "KILLED")],
)
def test_sweep_is_a_parent_with_children(tmp_path, uri, statuses, expected):
    sweep = tmp_path / "sweep"
    for number, status in enumerate(statuses):
        make_run(sweep / str(number), status=status, start=1000 + number, end=5000 + number)
    for _ in range(2):
        assert not send([sweep / "0", sweep / "1"], tracking_uri=uri, parent=sweep).failed
    found = runs(uri, "phantom")
    assert len(found) == 3
    (parent,) = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in found if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert sorted(run.info.status for run in children) == sorted(statuses)
    assert (parent.info.status, parent.info.start_time, parent.info.end_time) == (expected, 1000, 5001)


def test_sweep_with_an_outbox_of_its_own_says_how_it_ended(tmp_path, uri):
    sweep = tmp_path / "sweep"
    own = Outbox(sweep)
    own.begin("phantom", "models by seeds", {"overrides": "model=a,b"}, {"mlflow.note.content": "two models"}, 500)
    make_run(sweep / "0", parent=sweep)
    send([sweep / "0", sweep], tracking_uri=uri)
    assert {run.info.status for run in runs(uri, "phantom")} == {"RUNNING", "FINISHED"}
    own.finish("KILLED", end_time=9000)
    send([sweep / "0", sweep], tracking_uri=uri, parent=sweep)
    (parent,) = [run for run in runs(uri, "phantom") if "mlflow.parentRunId" not in run.data.tags]
    assert (parent.info.run_name, parent.info.status) == ("models by seeds", "KILLED")
    assert (parent.info.start_time, parent.info.end_time) == (500, 9000)
    assert parent.data.params == {"overrides": "model=a,b"}
    assert parent.data.tags["mlflow.note.content"] == "two models"


def test_sweep_over_experiments_has_a_parent_in_each(tmp_path, uri):
    make_run(tmp_path / "sweep" / "0", experiment="iq")
    make_run(tmp_path / "sweep" / "1", experiment="chest")
    send([tmp_path / "sweep" / "0", tmp_path / "sweep" / "1"], tracking_uri=uri, parent=tmp_path / "sweep")
    for experiment in ("iq", "chest"):
        found = runs(uri, experiment)
        assert sum("mlflow.parentRunId" in run.data.tags for run in found) == 1
        assert len(found) == 2


def test_run_lost_with_its_store_is_sent_anew(tmp_path, uri, empty_store):
    make_run(tmp_path / "one")
    send([tmp_path / "one"], tracking_uri=uri)
    (run,) = runs(uri, "phantom")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(empty_store, other / "mlflow.db")
    state = Outbox(tmp_path / "one").state()
    Outbox(tmp_path / "one").note({f"sqlite:///{other}/mlflow.db": state[uri]})
    sent = send([tmp_path / "one"], tracking_uri=f"sqlite:///{other}/mlflow.db")
    assert not sent.failed
    (again,) = runs(f"sqlite:///{other}/mlflow.db", "phantom")
    assert again.info.run_id != run.info.run_id
    assert again.data.metrics["train/loss"] == run.data.metrics["train/loss"]


def test_run_deleted_by_the_user_stays_deleted(tmp_path, uri):
    make_run(tmp_path / "one")
    send([tmp_path / "one"], tracking_uri=uri)
    client(uri).delete_run(runs(uri, "phantom")[0].info.run_id)
    assert not send([tmp_path / "one"], tracking_uri=uri).failed
    assert runs(uri, "phantom") == []


def test_experiment_deleted_by_the_user_is_reported(tmp_path, uri):
    make_run(tmp_path / "one")
    send([tmp_path / "one"], tracking_uri=uri)
    client(uri).delete_experiment(client(uri).get_experiment_by_name("phantom").experiment_id)
    make_run(tmp_path / "two")
    assert "mlflow experiments restore" in send([tmp_path / "two"], tracking_uri=uri).failed[tmp_path / "two"]


def test_thousands_of_numbers_long_params_and_foreign_names(tmp_path, uri):
    outbox = Outbox(tmp_path / "one")
    long = {"classes": "x" * 7000}
    outbox.begin("Größe / [x]=1", "über & <b>", long | {f"p{i}": i for i in range(150)} | {"a@b": 1, "c d": 2}, {})
    outbox.metrics({f"m{i}/faith": i / 7 for i in range(2500)})
    outbox.metrics({"test/recall_a[1]": 0.5, "test/recall_a(1)": 0.25, "infinite": math.inf, "../x": 1.0})
    outbox.finish("FINISHED")
    assert not send([tmp_path / "one"], tracking_uri=uri).failed
    (run,) = runs(uri, "Größe / [x]=1")
    assert len(run.data.metrics) == 2503
    assert run.data.metrics["m2499/faith"] == 2499 / 7
    assert sorted(v for k, v in run.data.metrics.items() if "recall" in k) == [0.25, 0.5]
    assert len(run.data.params) == 153
    assert len(run.data.params["classes"]) == PARAM_LENGTH
    assert run.data.params["a_b"] == "1"
    assert run.data.tags["infinite"] == "infinite = inf"


def test_names_stay_distinct_and_legal():
    names = ["a[b", "a]b", "a_b", "x" * 300, "x" * 299 + "y", "", "/", "a//b", ".."]
    legal = legal_names(names)
    assert legal["a_b"] == "a_b"
    assert len(set(legal.values())) == len(names)
    assert all(0 < len(name) <= 250 for name in legal.values())


def test_shortened_text_keeps_its_difference():
    one, two = "x" * 7000 + "1", "x" * 7000 + "2"
    assert shortened(one, 6000) != shortened(two, 6000)
    assert len(shortened(one, 6000)) == 6000
    assert shortened("short", 6000) == "short"


def test_address_follows_argument_environment_and_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert address() == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    assert address() == "http://host"
    assert address("sqlite:///x.db") == "sqlite:///x.db"
    assert ui_command("http://host") is None
    command = ui_command("sqlite:////a b/x.db")
    assert command is not None
    mlflow, *arguments = shlex.split(command)
    assert arguments == ["ui", "--backend-store-uri", "sqlite:////a b/x.db"]
    # It can be called as it stands, also where the environment is not activated.
    assert shutil.which(mlflow) is not None


def work(number: int, root: Path, barrier) -> None:
    os.chdir(root)
    folder = root / f"run-{number}"
    make_run(folder, experiment=("iq", "chest")[number % 2])
    barrier.wait(60)
    sent = send([folder])
    assert not sent.failed, sent.failed


def test_eight_processes_at_once_on_a_fresh_store(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "a folder"
    root.mkdir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow"])
    barrier = context.Barrier(8)
    processes = [context.Process(target=work, args=(number, root, barrier)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 8
    uri = f"sqlite:///{root}/mlruns/mlflow.db"
    for parity, experiment in enumerate(("iq", "chest")):
        found = runs(uri, experiment)
        assert sorted(run.info.run_name for run in found) == [f"run-{n}" for n in range(parity, 8, 2)]
        assert {run.info.status for run in found} == {"FINISHED"}
        assert all(artifacts(uri, run.info.run_id) for run in found)


def test_sweep_that_cannot_be_closed_is_reported(tmp_path, uri):
    sweep = tmp_path / "sweep"
    for number in range(2):
        make_run(sweep / str(number))
    (sweep / "1" / "outbox" / "run.json").write_text("{")
    sent = send([sweep / "0"], tracking_uri=uri, parent=sweep)
    assert set(sent.runs) == {sweep / "0"}
    assert set(sent.failed) == {sweep}


def test_a_kill_while_the_store_is_made_leaves_none_by_half(tmp_path):
    make_run(tmp_path / "run")
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    process = multiprocessing.get_context("spawn").Process(target=send, args=([tmp_path / "run"],), kwargs={"tracking_uri": uri})  # fmt: skip  # noqa: E501
    process.start()
    until = time.monotonic() + 120
    while not any(path.stat().st_size for path in (tmp_path / "mlruns").glob(".mlflow.db.making-*")):
        assert time.monotonic() < until
        time.sleep(0.005)
    process.kill()
    process.join()
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()
    assert not send([tmp_path / "run"], tracking_uri=uri).failed
    assert [run.info.status for run in runs(uri, "phantom")] == ["FINISHED"]
    assert not list((tmp_path / "mlruns").glob(".mlflow.db.making-*"))
