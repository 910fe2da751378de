"""The outbox keeps what a run said, through crashes, and knows how the run ended."""

import json
import math
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from heatproof.base.outbox import Outbox, flat, recorded


def begin(folder: Path, **more: object) -> Outbox:
    outbox = Outbox(folder)
    outbox.begin("phantom", "first", {"seed": 1}, {"plan": "abc"}, **more)  # type: ignore[arg-type]
    return outbox


def test_everything_said_is_read_back(tmp_path):
    outbox = begin(tmp_path / "run", start_time=1000, parent=tmp_path)
    outbox.metrics({"gradcam/faith": 0.1, "train/loss": math.nan, "x": -math.inf}, step=3)
    outbox.metrics({"y": 1 / 3})
    outbox.artifact("tables", "tables")
    outbox.finish("FINISHED", end_time=2000)
    content = outbox.read()
    assert (content.experiment, content.run_name, content.params, content.tags) == (
        "phantom",
        "first",
        {"seed": "1"},
        {"plan": "abc"},
    )
    assert (content.start_time, content.end_time, content.status) == (1000, 2000, "FINISHED")
    assert [(v.name, v.step) for v in content.values] == [
        ("gradcam/faith", 3),
        ("train/loss", 3),
        ("x", 3),
        ("y", None),
    ]
    assert content.values[0].value == 0.1
    assert math.isnan(content.values[1].value)
    assert content.values[2].value == -math.inf
    assert content.values[3].value == 1 / 3
    assert content.artifacts == ((tmp_path / "run" / "tables", "tables"),)
    assert content.parent == tmp_path.resolve()


def test_files_are_strict_json(tmp_path):
    outbox = begin(tmp_path)
    outbox.metrics({"a": math.nan, "b": math.inf})

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    for line in (tmp_path / "outbox" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)
    json.loads((tmp_path / "outbox" / "run.json").read_text(), parse_constant=refuse)


def test_line_cut_off_by_a_crash_costs_that_line_alone(tmp_path):
    outbox = begin(tmp_path)
    outbox.metrics({"a": 1.0, "b": 2.0})
    path = tmp_path / "outbox" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    assert [v.name for v in outbox.read().values] == ["a"]
    outbox.metrics({"c": 3.0})
    assert [v.name for v in outbox.read().values] == ["a", "c"]


def test_second_begin_adds_and_keeps_id_start_and_parent(tmp_path):
    first = begin(tmp_path / "run", start_time=5, parent=tmp_path).read()
    outbox = Outbox(tmp_path / "run")
    outbox.begin("phantom", "second", {"n": 2}, {"data": "xyz"})
    content = outbox.read()
    assert (content.id, content.start_time, content.parent) == (first.id, 5, first.parent)
    assert content.run_name == "second"
    assert content.params == {"seed": "1", "n": "2"}
    assert content.tags == {"plan": "abc", "data": "xyz"}


def test_first_end_counts(tmp_path):
    outbox = begin(tmp_path)
    outbox.finish("FAILED", error_text="boom")
    outbox.finish("FINISHED")
    assert outbox.read().status == "FAILED"
    assert (tmp_path / "outbox" / "traceback.txt").read_text() == "boom"


def test_block_that_ends_reads_finished(tmp_path):
    with recorded(tmp_path, experiment="e", run_name="r", params={}, tags={}) as outbox:
        assert Outbox(tmp_path).read().status == "RUNNING"
        outbox.metrics({"a": 1})
    assert Outbox(tmp_path).read().status == "FINISHED"


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_block_that_raises_reads_failed_or_killed(tmp_path, error, status):
    with pytest.raises(error), recorded(tmp_path, experiment="e", run_name="r", params={}, tags={}):
        raise error("why it failed")
    content = Outbox(tmp_path).read()
    assert content.status == status
    text = content.artifacts[-1][0].read_text()
    assert ("why it failed" in text) == (status == "FAILED")


def die(folder: Path) -> None:
    begin(folder).metrics({"a": 1.0})
    os.kill(os.getpid(), signal.SIGKILL)


def test_run_whose_process_was_killed_reads_killed(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=die, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    content = Outbox(tmp_path).read()
    assert content.status == "KILLED"
    assert content.end_time >= content.start_time
    assert [v.name for v in content.values] == ["a"]


def test_secrets_stay_out(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.begin(
        "e", "r", {"db": {"password": "pw-1", "uri": "http://me:pw-2@host/x"}, "token": "pw-3"}, {"t": "a://b:pw-4@c"}
    )
    outbox.finish("FAILED", error_text="cannot open http://me:pw-5@host")
    written = "".join(path.read_text() for path in (tmp_path / "outbox").iterdir() if path.suffix in (".json", ".txt"))
    assert "host" in written
    assert "pw-" not in written


def test_flat_keeps_empty_mappings_and_no_token_lookalikes():
    assert flat({"a": {}, "tokens_per_image": 3, "b": {"c": {"d": True}}}) == {
        "a": "{}",
        "tokens_per_image": "3",
        "b.c.d": "true",
    }
