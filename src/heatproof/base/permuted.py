"""Training on permuted labels: what a net can learn where labels say nothing of the images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from heatproof.base.fields import image_seed
from heatproof.base.records import Samples
from heatproof.base.registry import hash_of
from heatproof.base.settings import TrainSettings

# The split of images that take no part.
LEFT_OUT = "left out"


def permuted_labels(samples: Samples, seed: int) -> Samples:
    """The samples with the labels of the split "train" shuffled among its images, and without validation images.

    Permuted labels cannot be generalised, so that stopping early would end the training at once: the net must learn
    them by heart. Source: Adebayo et al. 2018, section 3.3.
    """
    table = samples.table.copy()
    rows = samples.rows("train")
    # By the images' ids, so that the order of the table does not matter.
    ids = [str(image) for image in table["image"].iloc[rows]]
    order = sorted(range(len(rows)), key=lambda place: ids[place])
    drawn = sorted(range(len(rows)), key=lambda place: image_seed(seed, ids[place], "permuted label"))
    labels = table["label"].to_numpy(copy=True)
    labels[rows[np.array(order)]] = table["label"].to_numpy()[rows[np.array(drawn)]]
    table["label"] = labels
    table.loc[table["split"] == "val", "split"] = LEFT_OUT
    return replace(samples, table=table, data_hash=hash_of([samples.data_hash, "permuted labels", seed]))


def permuted_training(settings: TrainSettings) -> TrainSettings:
    """The same training without what needs validation images: it goes on to its last epoch."""
    schedule = "constant" if settings.schedule == "plateau" else settings.schedule
    return replace(settings, patience=0, monitor="val_loss", monitor_classes=(), schedule=schedule)
