"""Reports made anew from what a run left, and shards that together are one run."""

import json
import shutil
from dataclasses import replace

import fabricated
import pandas as pd
import pytest

from heatproof.base.errors import HeatproofError
from heatproof.stages.report import report
from heatproof.stages.report.merge import rebuild, stored, wholes

N = 24
METRICS = tuple(m for m in fabricated.METRICS if m.label in ("faith", "loc_acc", "stability"))
TABLES = ("metrics", "controls", "comparisons", "classifier", "confusion", "history", "classification_report")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The results folder of a made-up run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    hashes = {"plan_hash": "whole", "whole_hash": "whole", "seedless_hash": "seedless", "shard": [0, 1]}
    report(folder, **fabricated.records(N), scores=fabricated.scores(N, metrics=METRICS),
           facts={**fabricated.FACTS, **hashes}, seed=0)  # fmt: skip
    return folder


def part(whole, folder, shard, shards, images=None):
    """What one shard of that run would leave."""
    shutil.copytree(whole, folder)
    scores = pd.read_parquet(whole / "scores.parquet")
    kept = sorted(scores["image"].unique())[shard::shards] if images is None else images
    scores[scores["image"].isin(kept)].to_parquet(folder / "scores.parquet", index=False)
    summary = json.loads((whole / "summary.json").read_text())
    summary |= {"plan_hash": f"plan {shard}", "shard": [shard, shards]}
    (folder / "summary.json").write_text(json.dumps(summary))
    return stored(folder)


def test_a_report_is_made_anew_without_a_model(whole, tmp_path):
    rebuild([stored(whole)], tmp_path / "again")
    for name in TABLES:
        for ending in ("csv", "md", "tex"):
            again = (tmp_path / "again" / "tables" / f"{name}.{ending}").read_bytes()
            assert again == (whole / "tables" / f"{name}.{ending}").read_bytes(), name
    for path in (whole / "figures").glob("*.png"):
        assert (tmp_path / "again" / "figures" / path.name).read_bytes() == path.read_bytes(), path.name
    first, again = (json.loads((path / "summary.json").read_text()) for path in (whole, tmp_path / "again"))
    assert again | {"passes": None} == first | {"passes": None}
    assert again["passes"]["used"] == first["passes"]["used"]
    rebuild([stored(tmp_path / "again")], tmp_path / "third")  # what was made anew can be made anew
    assert (tmp_path / "third" / "summary.json").read_bytes() == (tmp_path / "again" / "summary.json").read_bytes()


def test_shards_together_are_the_run(whole, tmp_path):
    # In another order than theirs, and one of them twice.
    runs = [part(whole, tmp_path / str(i), i, 3) for i in (2, 0, 1)]
    (group,) = wholes([*runs, runs[0]])
    assert [run.shard[0] for run in group] == [0, 1, 2]
    made = rebuild(group, tmp_path / "merged")
    scores = [pd.read_parquet(folder / "scores.parquet") for folder in (tmp_path / "merged", whole)]
    pd.testing.assert_frame_equal(*scores, check_exact=True)
    one = json.loads((whole / "summary.json").read_text())
    for name in ("methods", "comparisons", "verdicts", "classifier", "n_images", "plan_hash", "warnings"):
        assert made.summary[name] == one[name]
    assert made.summary["flags"]["weak"] == {kind: 3 * n for kind, n in one["flags"]["weak"].items()}
    tables = [(folder / "tables" / "metrics.csv").read_bytes() for folder in (tmp_path / "merged", whole)]
    assert tables[0] == tables[1]


def test_a_missing_shard_is_the_first_warning(whole, tmp_path):
    made = rebuild([part(whole, tmp_path / str(i), i, 3) for i in (0, 2)], tmp_path / "merged")
    assert made.summary["warnings"][0] == "1 of 3 shards are missing: 1"
    assert made.summary["plan_hash"] == "plan 0"
    assert "shards are missing" in (tmp_path / "merged" / "report.html").read_text()


def test_shards_that_overlap_are_refused(whole, tmp_path):
    runs = [part(whole, tmp_path / str(i), i, 2, ["case_000.png"]) for i in (0, 1)]
    with pytest.raises(HeatproofError, match=r"an image is in more than one shard, got 'case_000\.png'"):
        rebuild(runs, tmp_path / "merged")
    with pytest.raises(HeatproofError, match=r"cut into \[1, 2\], so they overlap"):
        wholes([stored(whole), runs[0]])


def test_what_is_no_finished_run_is_refused(tmp_path):
    with pytest.raises(HeatproofError, match=r"no finished run, for summary\.json is missing"):
        stored(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(HeatproofError, match=r"summary\.json cannot be read"):
        stored(tmp_path)


def test_runs_of_other_nets_or_data_are_other_runs(whole):
    run = stored(whole)
    for other in (
        replace(run, summary={**run.summary, "data_hash": "other"}),
        replace(run, summary={**run.summary, "whole_hash": "other"}),
        replace(run, records={**run.records, "classifier": {**run.records["classifier"], "identity": "other"}}),
    ):
        assert len(wholes([run, other])) == 2


def test_what_the_order_of_a_map_is_worth_outlives_the_run():
    from heatproof.stages.report.kept import kept, metrics_of

    records, scores = fabricated.records(N), fabricated.scores(N, metrics=METRICS)
    asked = replace(scores, metrics=(replace(METRICS[0], qge=True), *METRICS[1:]))
    found = metrics_of(kept(records["classifier"], records["predictions"], asked, {})["metrics"])
    assert [choice.qge for choice in found] == [True, *[False] * (len(METRICS) - 1)]
