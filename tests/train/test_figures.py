import pytest
import torch

from heatproof.base.train_rules import WORDS
from heatproof.stages.train.figures import MONITORS, figures


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_figures_equal_scikit_learn(classes):
    from sklearn import metrics

    generator = torch.Generator().manual_seed(classes)
    labels = torch.randint(0, classes, (40,), generator=generator)
    predicted = torch.where(torch.rand(40, generator=generator) < 0.5, labels, 0)
    if classes == 6:
        labels[labels == 5] = 0  # a class that is neither there nor predicted
        predicted[predicted == 5] = 1
        labels[labels == 4], predicted[3] = 0, 4  # one that is only predicted
    found = figures(labels, predicted, classes)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    for name in ("precision", "recall", "f1"):
        wanted = getattr(metrics, f"{name}_score")(labels, predicted, average="macro", zero_division=0)
        assert found[f"macro_{name}"] == pytest.approx(wanted), name
    assert found["recall"] == found["macro_recall"]


def test_recall_of_named_classes():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    predicted = torch.tensor([0, 1, 1, 1, 1, 2, 2, 2])
    assert figures(labels, predicted, 3, (0, 1))["recall"] == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert figures(labels, predicted, 3, (2,))["recall"] == 1


def test_the_config_knows_what_can_be_monitored():
    assert set(WORDS["monitor"]) == set(MONITORS)
    labels = torch.tensor([0, 1])
    assert {f"val_{name}" for name in figures(labels, labels, 2)} | {"val_loss"} == set(MONITORS)
