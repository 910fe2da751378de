"""The composed config, taken apart, checked as a whole, and put together as a plan."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from heatproof.base import registry, splits
from heatproof.base.errors import Faults
from heatproof.base.records import Method
from heatproof.base.registry import Bound
from heatproof.base.settings import Compute, EvalSettings, ExplainSettings, LoadSettings, MeasureSettings
from heatproof.base.shards import BLOCK, blocks_of, shard_of
from heatproof.base.study import study_of, takes_given
from heatproof.base.trained import Trained, trained_in
from heatproof.stages.plan.cost import passes_of, seconds_of
from heatproof.stages.plan.data import Counts, check_counts, counted, source_of
from heatproof.stages.plan.hashes import Decisive
from heatproof.stages.plan.methods import explainers, families, methods_of
from heatproof.stages.plan.metrics import metrics_of
from heatproof.stages.plan.record import Plan, ReportSettings, Tracking, compare_trainings
from heatproof.stages.plan.sections import section, settings_of, unknown_keys, value_of
from heatproof.stages.plan.sizes import check_sizes
from heatproof.stages.plan.training import check_monitored, check_name, check_weights, train_of

ROOT_TYPES = {
    "name": "str",
    "stage": "str | None",
    "show": "str | None",
    "seed": "int",
    "device": "str",
    "precision": "str",
    "deterministic": "bool",
    "protocol": "str",
    "target": "str",
    "sign": "str",
    "controls": "tuple[str, ...]",
    "anew": "bool",
    "given": "str | None",
}
SECTIONS = (
    "dataset", "model", "train", "explainer", "views", "metrics", "explain", "eval", "tracking", "report", "sweep",
)  # fmt: skip
# The default explainer of a net without spatial layers: what study 2 explains its nets by.
WITHOUT_LAYERS = "occlusion"
# What composition puts there: options of groups, which are known to exist.
NAMED = ("study", "arm", "scale")
ROOT_KEYS = (*ROOT_TYPES, *NAMED, "image", *SECTIONS)
LOAD_KEYS = tuple(field.name for field in dataclasses.fields(LoadSettings))


def make_plan(config: Mapping[str, Any], overrides: Sequence[str] = ()) -> Plan:
    """The plan of one job. Raises one HeatproofError with every fault of the config."""
    faults = Faults()
    warnings: list[str] = []
    config = _as_text(config)
    root = _root(config, faults)
    if config.get("study") is not None:
        with faults.gathered():
            study_of(str(config["study"]))
    config = {**config, **{key: {} for key in SECTIONS if not isinstance(config.get(key), Mapping)}}
    config, earlier = _with_earlier(config, faults)
    config = _without_unchosen(config)
    load = section(
        {key: value for key, value in config["dataset"].items() if key in LOAD_KEYS}, "dataset", LoadSettings, faults
    )
    dataset = _choice("dataset", config["dataset"], faults, other=LOAD_KEYS)
    model = _choice("model", config["model"], faults)
    config = _fitting_default(config, model, overrides, warnings)
    train = train_of(config["train"], faults)
    target = root["target"] if isinstance(root["target"], str) else "predicted"  # another type is a fault already
    explain = section({**config["explain"], "target": target}, "explain", ExplainSettings, faults)
    evaluation = section(config["eval"], "eval", EvalSettings, faults)
    tracking = section(config["tracking"], "tracking", Tracking, faults)
    report = section(config["report"], "report", ReportSettings, faults)
    value_of(config["sweep"].get("fail_fast"), "bool", "sweep.fail_fast", faults)
    methods = methods_of(config, faults)
    # What a run looks at the data for asks neither for a net nor for images to train it on.
    looks = root["stage"] == "load"
    classes = earlier.classes if earlier else ()
    counts, annotation, split, regrouped = _data(config, dataset, load, classes, faults, warnings)
    if counts and not looks:
        if config["eval"].get("split") in counts:
            warnings += check_counts(counts, config["eval"], train.policy if train else "none", faults)
        if train:
            check_monitored(train, counts, faults)
    metrics = () if config.get("image") else metrics_of(config, families(methods), annotation, faults, warnings)
    if train and train.policy == "none" and (untrained := compare_trainings(metrics)):
        warnings.append(f"{', '.join(untrained)}: undefined, for train=none trains no net, nor one on permuted labels.")
    if evaluation and evaluation.shard >= evaluation.shards:
        faults.add("eval.shard", f"shards are counted from 0 to eval.shards - 1 = {evaluation.shards - 1}",
                   got=evaluation.shard)  # fmt: skip
    if evaluation and evaluation.shards > 1 and evaluation.rerun_images is not None:
        faults.add("eval.rerun_images", "is drawn from all images, which a shard does not have; leave it null",
                   got=evaluation.rerun_images)  # fmt: skip
    if not looks:
        _check_background(methods, counts, annotation, faults)
        if load:
            check_sizes(methods, metrics, load.size, faults)
    if earlier and train and train.policy != "none":
        faults.add("train", "the net of model.checkpoint is taken as it is", got=train.policy, hint="train=none")
    if model and train:
        check_name(model, faults)
        if not looks and config["model"].get("checkpoint") is None:
            check_weights(model, train, faults, given=_given(config))
        _check_fit(model, methods, faults)
    if report and tracking and report.runs is not None and root["stage"] != "report" and not tracking.upload:
        faults.add("report.runs", "earlier runs are reported, or sent, not run again", got=report.runs,
                   hint="stage=report makes their report anew; tracking.upload=true sends them.")  # fmt: skip
    faults.raise_any()
    assert dataset is not None and load is not None and model is not None and train is not None  # noqa: PT018
    assert explain is not None and evaluation is not None and tracking is not None and report is not None  # noqa: PT018
    measure = MeasureSettings(root["seed"], root["sign"], root["protocol"], tuple(root["controls"]))
    compute = Compute(root["device"], root["precision"], root["deterministic"])
    there = sum(counts[evaluation.split].values())
    images = len(shard_of(min(there, evaluation.images or there), evaluation.shard, evaluation.shards))
    model_name = str(config["model"].get("label") or model.settings.get("name") or model.name)
    validation = sum(counts["val"].values())
    maps, perturbed = passes_of(methods, metrics, images, measure, load.size, validation)
    trained = sum(counts["train"].values())
    decides = Decisive(dataset, load, model, train, methods, metrics, explain, evaluation, measure, compute,
                       earlier.identity if earlier else None)  # fmt: skip
    warnings += _few_blocks(evaluation, there)
    return Plan(
        name=root["name"],
        stage=root["stage"],
        show=root["show"],
        seed=root["seed"],
        dataset=dataset,
        dataset_name=dataset.name,
        load=load,
        model=model,
        model_name=model_name,
        train=train,
        methods=methods,
        metrics=metrics,
        explain=explain,
        eval=evaluation,
        measure=measure,
        compute=compute,
        tracking=tracking,
        report=report,
        config=config,
        overrides=tuple(overrides),
        hash=decides.hash(),
        whole_hash=decides.whole().hash(),
        seedless_hash=decides.whole().seedless().hash(),
        anew=root["anew"],
        split=split,
        regrouped=regrouped,
        counts=counts,
        passes=maps + perturbed,
        seconds=seconds_of(maps, perturbed, trained, model_name, load, train, compute),
        warnings=tuple(warnings),
        trained=earlier,
    )


def _without_unchosen(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what the files of a study hold for explainers and metrics that its arm does not choose."""
    if config.get("study") is None:
        return config
    suites = {
        suite: {label: one for label, one in some.items() if not isinstance(one, Mapping) or one.get("metric", True)}
        if isinstance(some, Mapping) else some
        for suite, some in config["metrics"].items()
    }  # fmt: skip
    entries = config["explainer"].items()
    chosen = {label: one for label, one in entries if not isinstance(one, Mapping) or one.get("method") is not None}
    return {**config, "explainer": chosen, "metrics": suites}


def _with_earlier(config: dict[str, Any], faults: Faults) -> tuple[dict[str, Any], Trained | None]:
    """The config with the net of the run that `model.checkpoint` names."""
    folder = config["model"].get("checkpoint")
    with faults.gathered():
        if folder is not None:
            found = trained_in(str(folder))
            return {**config, "model": {**found.model, "checkpoint": str(folder)}}, found
    return config, None


def _given(config: Mapping[str, Any]) -> bool:
    """Whether the weights are those of `given=FILE`, for a study's arm that takes them from there."""
    return takes_given(config) and config["model"].get("weights") == config.get("given")


def _as_text(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with names as text that YAML reads as something else: `target=true`, classes called 0 and 1."""

    def name(value: Any) -> Any:
        return str(value).lower() if isinstance(value, (bool, int)) else value

    dataset, target = config.get("dataset"), name(config.get("target"))
    if isinstance(dataset, Mapping) and isinstance(dataset.get("classes"), (list, tuple)):
        dataset = {**dataset, "classes": [name(one) for one in dataset["classes"]]}
    evaluation = config.get("eval")
    if isinstance(evaluation, Mapping) and "positive" in evaluation:
        evaluation = {**evaluation, "positive": name(evaluation["positive"])}
    given = {"dataset": dataset, "eval": evaluation}
    return {**config, "target": target, **{key: value for key, value in given.items() if key in config}}


def _root(config: Mapping[str, Any], faults: Faults) -> dict[str, Any]:
    for key in config:
        if key not in ROOT_KEYS:
            faults.add(key, "no such key", got=key, choices=ROOT_KEYS)
    for key in SECTIONS:
        if not isinstance(config.get(key, {}), Mapping) and config[key] is not None:
            faults.add(key, "a group of keys is expected", got=config.get(key))
    root = {key: value_of(config.get(key), kind, key, faults) for key, kind in ROOT_TYPES.items()}
    if isinstance(root["controls"], (list, tuple)):
        root["controls"] = tuple(dict.fromkeys(map(str, root["controls"])))
    else:
        root["controls"] = ()
    if isinstance(root["device"], str) and not _is_device(root["device"]):
        faults.add("device", "no such device", got=root["device"], choices=("auto", "cpu", "cuda", "cuda:0"))
    return root


def _is_device(name: str) -> bool:
    return name in ("auto", "cpu", "cuda") or (name.startswith("cuda:") and name[5:].isdigit())


def _choice(kind: str, config: Mapping[str, Any], faults: Faults, *, other: tuple[str, ...] = ()) -> Bound | None:
    key = registry.FUNCTION_KEY[kind]
    with faults.gathered():
        if config.get(key) is None:
            faults.add(f"{kind}.{key}", "the key is missing", hint=f"Choose one: {kind}=OPTION.")
            return None
        choice = registry.find(kind, str(config[key]))
        more = {"dataset": ("root", *other), "model": registry.MODEL_KEYS}.get(kind, ())
        unknown_keys(choice, config, kind, faults, other=(key, *more))
        return registry.bind(kind, choice.name, settings_of(choice, config, kind, faults))
    return None


def _data(
    config: Mapping[str, Any],
    dataset: Bound | None,
    load: LoadSettings | None,
    known: Sequence[str],
    faults: Faults,
    warnings: list[str],
) -> tuple[Counts, str | None, str, bool]:
    """Images per split and class, the kind of annotation that the data have, the kind of split, and whether loading
    draws it again, when near-duplicates are known. `known`: classes of a net that is there already."""
    supposed = dataset.facts.get("annotation") if dataset else "mask"
    source = source_of(dataset, load, faults) if dataset is not None and load is not None else None
    if source is None or load is None:
        return {}, supposed, "", False
    warnings += source.remarks
    target, named = config.get("target"), known or source.classes
    if isinstance(target, str) and target not in ("predicted", "true", *named):
        faults.add("target", "no such class", got=target, choices=("predicted", "true", *named))
    if known and source.classes and tuple(load.classes or source.classes) != tuple(known):
        hint = f"dataset.classes=[{','.join(known)}] puts them into its order."
        faults.add("model.checkpoint", f"its net tells apart {', '.join(known)}", got=load.classes or source.classes,
                   hint=hint)  # fmt: skip
    positive, classes = config["eval"].get("positive"), load.classes or source.classes
    if positive is not None and len(classes) != 2:
        faults.add("eval.positive", "only of two classes one is positive; leave it null", got=positive, choices=classes)
    elif positive is not None and positive not in classes:
        faults.add("eval.positive", "no such class", got=positive, choices=classes)
    counts = counted(source, load, faults)
    annotation = next((row.annotation for row in source.rows if row.annotation), None)
    regrouped = load.near and source.identity is None and splits.is_drawn(source.rows, load)
    return counts, annotation, splits.kind_of(source.rows, load), regrouped


def _fitting_default(
    config: dict[str, Any], model: Bound | None, overrides: Sequence[str], warnings: list[str]
) -> dict[str, Any]:
    """The config with another explainer than the default one where that one does not fit the model; a chosen one stays,
    and is refused."""
    default = {"gradcam": registry.conf_file("explainer", "gradcam")}
    chosen = any(text.lstrip("+~").startswith(("explainer", "study")) for text in overrides)
    if model is None or model.facts.get("layers", True) or chosen or config["explainer"] != default:
        return config
    warnings.append(
        f"{model.name} has no layer that gradcam could look at: {WITHOUT_LAYERS} is the default explainer of such nets."
    )
    return {**config, "explainer": {WITHOUT_LAYERS: dict(registry.conf_file("explainer", WITHOUT_LAYERS) or {})}}


def _check_fit(model: Bound, methods: Sequence[Method], faults: Faults) -> None:
    """Note explainers that need of a model what it has not: gradients, a layer with a place in the image, attention."""
    parts = [part for method in methods for part in (method, *method.of)]
    for fact, need, lacking in (
        ("gradient", "gradient", "needs gradients, and the model {} has none"),
        ("layers", "layer", "looks at a layer's place in the image, and the model {} has no such layer"),
        ("layers", "convolution", "sums up convolutions, and the model {} has none"),
        ("attention", "attention", "looks at a transformer's attention, and the model {} has none"),
    ):
        if model.facts.get(fact, True):
            continue
        needing = {m.explainer.name for m in parts if m.explainer and need in m.explainer.facts.get("needs", ())}
        fitting = [n for n in explainers() if need not in registry.find("explainer", n).facts.get("needs", ())]
        for name in sorted(needing):
            faults.add("explainer", f"{name} {lacking.format(model.name)}", choices=fitting, hint="Take one of them.")


def _check_background(methods: Sequence[Any], counts: Counts, annotation: str | None, faults: Faults) -> None:
    priors = [m for m in methods if m.explainer is not None and "prior" in m.explainer.facts.get("needs", ())]
    if annotation is None and priors:
        faults.add("controls", "the mean annotation of training images is needed, the data set has none", got="prior")
    if not counts or any(counts["train"].values()):
        return
    needing = {part.explainer.name for method in methods for part in (method, *method.of)
               if "background" in part.explainer.facts.get("needs", ())}  # fmt: skip
    for name in sorted(needing):
        faults.add("explainer", f"{name} compares with training images, and the split train holds none",
                   hint="See dataset.split and dataset.fractions.")  # fmt: skip


def _few_blocks(evaluation: EvalSettings, there: int) -> list[str]:
    """A warning where shards cut the blocks that images are measured in."""
    images = min(there, evaluation.images or there)
    if evaluation.shards <= len(blocks_of(images)):
        return []
    return [
        f"eval.shards={evaluation.shards}, but {images} images are measured in {len(blocks_of(images))} blocks of at "
        f"most {BLOCK}: each shard takes other images' maps (the floor) from its own images alone"
    ]
