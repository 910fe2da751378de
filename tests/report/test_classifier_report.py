"""What `stage=predict` leaves: the classifier's own report, and a sweep of classifiers without maps."""

import json

import pandas as pd
from commands import heatproof, user_folder


def test_a_sweep_of_classifiers_is_compared_without_maps(tmp_path):
    done = heatproof(
        "-m", "dataset=blobs", "stage=predict", "model.width=2,3", "model.stages=2", "train.epochs=1",
        work=tmp_path, user=user_folder(tmp_path / "user"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sweep = tmp_path / "here" / "results" / "latest"
    own = sweep / "0"
    assert not (own / "report.html").exists()
    assert not (own / "scores.parquet").exists()
    for name in ("classification_report", "classifier", "confusion", "history"):
        assert (own / "tables" / f"{name}.csv").is_file()
    for name in ("training", "confusion", "roc", "pr", "reliability"):
        assert (own / "figures" / f"{name}.png").is_file()
    summary = json.loads((own / "summary.json").read_text())
    assert summary["stage"] == "predict"
    assert summary["methods"] == {}
    table = pd.read_parquet(own / "predictions.parquet")
    test = table[table["split"] == "test"]
    assert summary["classifier"]["accuracy"]["value"] == (test["label"] == test["predicted"]).mean()
    page = (own / "classifier.html").read_text()
    assert "How good is the classifier?" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "classifier.html" in (sweep / "sweep.html").read_text()
    assert set(pd.read_csv(sweep / "comparison.csv")["run"]) == {0, 1}
    metrics = (own / "outbox" / "metrics.jsonl").read_text()
    assert '"test/accuracy"' in metrics
    assert "classifier.html" in (own / "outbox" / "artifacts.jsonl").read_text()
    again = heatproof("stage=report", f"report.runs={own}", work=tmp_path)
    assert again.returncode == 2
    assert "stopped after stage=predict" in again.stderr
