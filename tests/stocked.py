"""Samples, classifier and predictions made up in memory, for tests of the stages after training."""

import numpy as np
import pandas as pd
import tiny

from heatproof.base.names import MethodName
from heatproof.base.records import Method, MetricChoice, Predictions, Samples
from heatproof.base.registry import bind, preset
from heatproof.base.settings import EvalSettings, ExplainSettings, MeasureSettings

EVALUATION = EvalSettings(split="test", images=None, only_correct=False, rerun_images=None, shard=0, shards=1)
EXPLAIN = ExplainSettings(seed=1, batch=16, target="predicted")
MEASURE = MeasureSettings(seed=1, sign="signed", protocol="sound", controls=("shifted",), shifts=2)


def samples(n=12, channels=1, size=16):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (n, size, size, channels), dtype=np.uint8)
    masks = np.zeros((n, size, size), dtype=np.uint8)
    masks[::2, 3:8, 4:9] = 1
    table = pd.DataFrame(
        {
            "image": [f"image{i:03d}" for i in range(n)],
            "path": None,
            "label": np.arange(n) % 3,
            "label_name": [f"class{i % 3}" for i in range(n)],
            "group": None,
            "split": "test",
            "width": size,
            "height": size,
            "file_hash": "",
            "annotation": ["mask" if i % 2 == 0 else None for i in range(n)],
        }
    )
    classes = ("class0", "class1", "class2")
    return Samples(table, pixels, masks, classes, "made-up", "random", (0.5,) * channels)


def predictions(of):
    return Predictions(pd.DataFrame(), {}, np.arange(len(of.table)))


def classifier(channels=1):
    return tiny.classifier(tiny.Conv(channels), channels=channels)


def methods(*names, views=("identity", "flip", "rotate_p15")):
    made = []
    seen = tuple(preset("view", view) for view in views)
    for name in names:
        explainer = bind("explainer", name)
        if explainer.facts.get("control"):
            made.append(Method(MethodName(name), explainer, control_of="all"))
            continue
        made.append(Method(MethodName(name), explainer))
        fused = MethodName(name, None, "three", "mean")
        made.append(Method(fused, explainer, None, seen, preset("fusion", "mean")))
        made.append(Method(fused.prefixed("blurred"), explainer, control_of=str(fused), alter="blurred"))
    return made


def metrics(*names):
    return [MetricChoice(name, bind("metric", name)) for name in names]
