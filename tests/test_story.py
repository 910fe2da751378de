"""The whole story on the phantom: the planted nodule is found, twice the same to the bit, over three seeds."""

import numpy as np
import pytest
from toy import CPU, training

from heatproof.base.names import MethodName
from heatproof.base.records import Method, MetricChoice
from heatproof.base.registry import bind, preset
from heatproof.base.settings import EvalSettings, ExplainSettings, LoadSettings, MeasureSettings
from heatproof.base.stats import compare
from heatproof.base.store import Store
from heatproof.stages.explain import explain
from heatproof.stages.load import load
from heatproof.stages.measure import measure
from heatproof.stages.predict import predict
from heatproof.stages.train import train

LOAD = LoadSettings(42, "grouped", (0.6, 0.2, 0.2), None, None, 64, 1, None)


def story(folder, seed, epochs=8):
    store = Store(folder)
    samples = load(bind("dataset", "phantom", {"root": None}), LOAD, store)
    settings = training(seed=seed, epochs=epochs, batch=32, lr=1e-3, patience=5, checkpoint=False)
    classifier = train(samples, bind("model", "small_cnn"), settings, CPU, store, progress=False)
    evaluation = EvalSettings("test", 32, False, None, 0, 1)
    predictions = predict(samples, classifier, evaluation, dataset_seed=42, compute=CPU, progress=False)
    gradcam = bind("explainer", "gradcam")
    views = tuple(preset("view", name) for name in ("identity", "flip", "rotate_p15"))
    methods = [
        Method(MethodName("gradcam"), gradcam),
        Method(MethodName("gradcam", None, "three", "mean"), gradcam, None, views, preset("fusion", "mean")),
        *(Method(MethodName(name), bind("explainer", name), control_of="all") for name in ("random", "centre")),
    ]
    maps = explain(
        samples,
        classifier,
        predictions,
        methods,
        ExplainSettings(seed, 32, "predicted"),
        protocol="sound",
        store=store,
        progress=False,
    )
    metrics = [MetricChoice(name, bind("metric", name)) for name in ("loc_acc", "faith", "stability")]
    scores = measure(
        samples,
        classifier,
        maps,
        metrics,
        MeasureSettings(seed, "signed", "sound", ("shifted",)),
        evaluation,
        store=store,
        progress=False,
    )
    return predictions, scores.table


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradcam_finds_the_nodule_and_beats_its_controls(tmp_path, seed):
    predictions, table = story(tmp_path, seed)
    assert predictions.figures["accuracy"]["value"] >= 0.9
    main = table[table["column"] == "loc_acc"].pivot_table(index="image", columns="method", values="value")
    assert len(main) >= 16
    for control in ("random", "centre"):
        difference = compare(main["gradcam"].to_numpy(), main[control].to_numpy(), seed=seed)
        assert difference.lo > 0, (control, difference)


def test_the_same_run_twice_is_equal_to_the_bit(tmp_path):
    first, second = (story(tmp_path / name, 0, epochs=2)[1] for name in ("one", "two"))
    assert np.array_equal(first["value"].to_numpy(), second["value"].to_numpy(), equal_nan=True)
    assert (first["status"] == second["status"]).all()
