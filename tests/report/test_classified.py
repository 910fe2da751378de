"""Tables and figures of the classifier, and what is left of them where there is little to say."""

import dataclasses

import fabricated
import numpy as np
import pandas as pd
import pytest

from heatproof.base.merit import figures
from heatproof.stages.report.classified import (
    classifier_frame,
    confusion_frame,
    figure_text,
    judged_of,
    overall_frame,
    report_frame,
    report_text,
)
from heatproof.stages.report.evaluation import classifier_drawings


def predictions(n=48, *, classes=fabricated.CLASSES, positive=None, **columns):
    """Fabricated predictions, half of them on the validation split, with their figures; two classes where asked."""
    made = fabricated.records(n)["predictions"]
    table = made.table.assign(split=["test", "val"] * (n // 2), group=None)
    if len(classes) == 2:
        table["label"], table["predicted"] = table["label"] % 2, table["predicted"] % 2
        p = np.where(table["predicted"] == 1, 0.8, 0.3)
        table = table.drop(columns=[c for c in table if c.startswith("p_")])
        table[f"p_{classes[0]}"], table[f"p_{classes[1]}"] = 1 - p, p
    made = dataclasses.replace(made, table=table.assign(**columns), figures={}, positive=positive)
    return with_figures(made, classes)


def with_figures(made, classes):
    by_split = {s: judged_of(made, classes, s) for s in ("test", "val")}
    found = {s: {} if one is None else figures(one, seed=0) for s, one in by_split.items()}
    return dataclasses.replace(made, figures=found["test"], val_figures=found["val"])


def drawn(made, classes=fabricated.CLASSES):
    classifier = dataclasses.replace(fabricated.records(6)["classifier"], classes=classes)
    return {one.name: one for one in classifier_drawings(classifier, made, seed=0)}


def test_report_has_classes_then_means_of_both_splits():
    made = predictions()
    frame = report_frame(made, fabricated.CLASSES)
    assert frame["split"].tolist() == ["test"] * 5 + ["val"] * 5
    assert frame["class"].tolist()[:5] == [*fabricated.CLASSES, "macro mean", "weighted mean"]
    assert frame["support"].tolist()[:5] == [8, 8, 8, 24, 24]
    for name in ("precision", "recall", "f1", "specificity", "roc_auc", "pr_auc"):
        assert frame.loc[1, name] == made.figures[f"{name}_smooth"]["value"]
        assert frame.loc[1, f"{name}_lo"] == made.figures[f"{name}_smooth"]["lo"]
    assert frame.loc[3, "roc_auc"] == made.figures["roc_auc"]["value"]
    assert frame.loc[4, "f1"] == made.figures["weighted_f1"]["value"]
    text = report_text(frame)
    assert text.loc[1, "recall (sensitivity)"] == figure_text(made.figures["recall_smooth"])
    assert text.loc[4, "roc_auc"] == "–"


def test_of_two_classes_the_positive_one_has_the_areas():
    made = predictions(classes=("well", "ill"), positive="ill")
    frame = report_frame(made, ("well", "ill"))
    assert np.isnan(frame.loc[0, "roc_auc"])
    assert frame.loc[1, "roc_auc"] == made.figures["roc_auc"]["value"]
    assert frame.loc[1, "specificity"] == made.figures["specificity"]["value"]
    assert "positive = ill" in drawn(made, ("well", "ill"))["roc"].caption


def test_overall_figures_of_both_splits_stand_side_by_side():
    made = predictions()
    frame = overall_frame(made, fabricated.CLASSES).set_index("figure")
    assert list(frame.columns) == ["test", "val"]
    assert frame.loc["mcc", "val"] == figure_text(made.val_figures["mcc"])
    assert not any("smooth" in name for name in frame.index)
    assert len(classifier_frame(made)) == 2 * len(made.figures)


def test_confusion_counts_every_image_once():
    made = predictions()
    frame = confusion_frame(made, fabricated.CLASSES)
    assert frame.groupby("split")["images"].sum().tolist() == [24, 24]
    assert frame.groupby(["split", "true"])["rate"].sum().tolist() == pytest.approx([1] * 6)


def test_every_figure_says_n_and_interval():
    found = drawn(predictions())
    assert set(found) == {"training", "confusion", "roc", "pr", "reliability"}
    for name in ("confusion", "roc", "pr", "reliability"):
        assert "(n = 24)" in found[name].caption, name
    for name in ("roc", "pr", "reliability"):
        assert "95 %" in found[name].caption, name


def test_a_class_without_test_images_has_no_curve_and_is_named():
    made = predictions()
    table = made.table
    made = with_figures(dataclasses.replace(made, table=table[(table["label"] != 2) | (table["split"] == "val")]),
                        fabricated.CLASSES)  # fmt: skip
    found = drawn(made)
    assert "Not drawn, for want of images or of room: spiculated." in found["roc"].caption
    frame = report_frame(made, fabricated.CLASSES)
    assert frame.loc[2, "support"] == 0
    assert np.isnan(frame.loc[2, "recall"])
    assert report_text(frame).loc[2, "recall (sensitivity)"] == "–"


@pytest.mark.parametrize("keep", ["one class", "one image"])
def test_one_class_or_one_image_draws_what_is_defined(keep):
    made = predictions()
    rows = made.table["label"] == 1 if keep == "one class" else made.table.index == 0
    made = with_figures(dataclasses.replace(made, table=made.table[rows]), fabricated.CLASSES)
    assert set(drawn(made)) == {"training", "confusion", "reliability"}
    assert np.isfinite(made.figures["accuracy"]["lo"])


def test_without_labels_there_is_no_table_and_no_figure():
    made = predictions()
    made = dataclasses.replace(
        made, table=made.table.assign(label=pd.array([None] * 48, dtype="Int64")), figures={}, val_figures={}
    )
    assert report_frame(made, fabricated.CLASSES).empty
    assert overall_frame(made, fabricated.CLASSES).empty
    assert confusion_frame(made, fabricated.CLASSES).empty
    assert set(drawn(made)) == {"training"}


def test_more_classes_than_fit_are_counted():
    n, classes = 60, tuple(f"class {i}" for i in range(12))
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(12), n)
    table = pd.DataFrame({"image": [str(i) for i in range(n)], "split": "test", "label": np.arange(n) % 12})
    table = table.assign(predicted=p.argmax(1), group=[f"g{i // 2}" for i in range(n)])
    table = table.join(pd.DataFrame({f"p_{name}": p[:, i] for i, name in enumerate(classes)}))
    made = with_figures(dataclasses.replace(predictions(), table=table), classes)
    found = drawn(made, classes)
    assert "class 8, class 9, class 10, class 11." in found["roc"].caption
    assert "resampled groups of images" in found["roc"].caption


def test_figures_as_text():
    assert figure_text({"value": 0.5, "lo": 0.4, "hi": 0.6}) == "0.50 [0.40, 0.60]"
    assert figure_text({"value": -0.001, "lo": -0.2, "hi": 0.2}) == "0.00 [-0.20, 0.20]"
    assert figure_text({"value": np.nan, "lo": np.nan, "hi": np.nan}) == figure_text(None) == "–"
