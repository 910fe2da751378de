"""One run: images -> classifier -> maps -> numbers -> report, each stage handing a small record to the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heatproof.base.outbox import recorded
from heatproof.base.records import Classifier, Report, Samples
from heatproof.base.store import Store
from heatproof.base.trained import LOOK, Trained
from heatproof.base.versions import versions

if TYPE_CHECKING:
    from heatproof.stages.plan import Plan

PREVIEWED = ("flip", "rotate")  # where a run trains on the images as they are
STAGES = ("plan", "load", "train", "predict", "explain", "measure", "report")


def run(
    plan: Plan,
    folder: Path,
    *,
    parent: Path | None = None,
    progress: bool = True,
    before_report: Callable[[], None] = lambda: None,
) -> Report:
    """Carry out a plan up to its stage, write the results folder and fill its outbox; returns the report.
    `before_report` is called when all else is done.

    What earlier runs stored is used again, so a run that was stopped goes on where it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with recorded(folder, parent=parent, **plan.tracked()):
        return _stages(plan, folder, progress, before_report)


def _stages(plan: Plan, folder: Path, progress: bool, before_report: Callable[[], None]) -> Report:
    from heatproof.base import notes
    from heatproof.base.device import images_at_once, keep_freed_memory
    from heatproof.base.trial import check_methods
    from heatproof.stages.explain import explain
    from heatproof.stages.load import load
    from heatproof.stages.measure import measure
    from heatproof.stages.predict import predict
    from heatproof.stages.report import report
    from heatproof.stages.report.classifier import classifier_report
    from heatproof.stages.report.data import data_report
    from heatproof.stages.report.pictures import pictures
    from heatproof.stages.track import collect
    from heatproof.stages.train import check_net, train

    keep_freed_memory()
    store, clock = Store(), Clock()
    with clock("load"):
        if plan.stage != "load":
            classes = next(iter(plan.counts.values()), {})
            check_net(plan.model, len(classes), plan.load.channels, plan.load.size, plan.train)
        samples = load(plan.dataset, plan.load, store)
    if plan.stage == "load":
        before_report()
        # What the plan says of nets, methods and metrics has no place in a report of the data.
        facts = {**facts_of(plan, clock.seconds, {"used": 0}, []), "warnings": list(dict.fromkeys(samples.remarks))}
        done = data_report(folder, samples=samples, facts=facts, **preview_of(samples, plan))
        collect(folder, **plan.tracked(), report=done)
        return done
    with clock("train"):
        example = samples.images(samples.rows(plan.eval.split)[:1])
        num_classes = len(plan.trained.classes if plan.trained else samples.classes)
        check_methods(plan.model, example, num_classes, plan.methods, to_explain(plan, samples))
        classifier = train(
            samples, plan.model, plan.train, plan.compute, store, trained=plan.trained, progress=progress
        )
        trained_of(plan, classifier).write(folder)
    if plan.stage == "train":
        return stopped(folder, "train", f"best epoch {classifier.best_epoch}", classifier.remarks)
    with clock("predict"):
        predictions = predict(
            samples, classifier, plan.eval, dataset_seed=plan.load.seed, compute=plan.compute, progress=progress
        )
    if plan.stage == "predict":
        before_report()
        # What the plan says of methods and metrics has no place in a report of the classifier.
        remarks = list(dict.fromkeys([*samples.remarks, *classifier.remarks]))
        facts = {**facts_of(plan, clock.seconds, {"used": 0}, []), "warnings": remarks}
        done = classifier_report(
            folder, samples=samples, classifier=classifier, predictions=predictions, facts=facts, seed=plan.seed
        )
        collect(folder, **plan.tracked(), report=done, classifier=classifier, predictions=predictions)
        return done
    with clock("explain"):
        maps = explain(
            samples, classifier, predictions, plan.methods, plan.explain,
            protocol=plan.measure.protocol, store=store, progress=progress, keep_views=plan.report.views,
            keep_copies=plan.eval.shards > 1,
        )  # fmt: skip
    if plan.picture and plan.stage is None:
        before_report()
        facts = facts_of(plan, clock.seconds, maps.passes, [*classifier.remarks, *maps.remarks])
        done = pictures(
            folder,
            samples=samples,
            classifier=classifier,
            predictions=predictions,
            maps=maps,
            facts=facts,
            alphas=plan.report.alphas,
        )
        collect(folder, **plan.tracked(), report=done)
        return done
    if plan.stage == "explain":
        return stopped(folder, "explain", f"{len(maps.rows)} images x {len(maps.files)} methods", maps.remarks)
    permuted = None
    if plan.trains_on_permuted_labels:
        with clock("train on permuted labels"):
            permuted = permuted_net(plan, samples, store, progress=progress)
    with clock("measure"):
        scores = measure(
            samples, classifier, maps, plan.metrics, plan.measure, plan.eval,
            store=store, batch=plan.explain.batch or images_at_once(classifier.device, plan.load.size),
            estimate=plan.passes, progress=progress, permuted=permuted, target=plan.explain.target,
        )  # fmt: skip
    if plan.stage == "measure":
        return stopped(folder, "measure", f"{len(scores.table)} values", ())
    before_report()
    with clock("report"):
        done = report(
            folder, samples=samples, classifier=classifier, predictions=predictions, maps=maps, scores=scores,
            facts=facts_of(
                plan, clock.seconds, passes_of(maps.passes, scores.passes),
                [*samples.remarks, *classifier.remarks, *maps.remarks, *notes.remarks(maps.notes)],
            ),
            seed=plan.seed, keep_maps=plan.report.maps or plan.report.views, protocol=plan.measure.protocol,
            alphas=plan.report.alphas,
        )  # fmt: skip
    collect(folder, **plan.tracked(), report=done, classifier=classifier, predictions=predictions)
    return done


def permuted_net(plan: Plan, samples: Samples, store: Store, *, progress: bool) -> Classifier | None:
    """The net that is trained on permuted labels, where a metric compares with it and nets are trained at all."""
    from heatproof.base.permuted import permuted_labels, permuted_training
    from heatproof.stages.train import train

    if not plan.trains_on_permuted_labels:
        return None
    shuffled, settings = permuted_labels(samples, plan.train.seed), permuted_training(plan.train)
    return train(shuffled, plan.model, settings, plan.compute, store, progress=progress)


class Clock:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 2)


def to_explain(plan: Plan, samples: Samples) -> list[str]:
    """The images that will be explained, where that does not depend on the net; else none."""
    from heatproof.stages.predict.explained import explained_rows

    if plan.eval.only_correct:
        return []
    rows = explained_rows(samples, samples.table, plan.eval, plan.load.seed)
    return [str(image) for image in samples.table["image"].loc[rows]]


def trained_of(plan: Plan, classifier: Classifier) -> Trained:
    """What another run needs of this one's net."""
    return Trained(
        name=plan.model_name,
        model={key: value for key, value in plan.config["model"].items() if key != "checkpoint"},
        look={key: getattr(plan.load, key) for key in LOOK},
        classes=classifier.classes,
        weights=None if classifier.weights is None else str(classifier.weights.absolute()),
        identity=classifier.identity,
        train_mean=classifier.train_mean,
    )


def stopped(folder: Path, stage: str, found: str, remarks: tuple[str, ...]) -> Report:
    """What a run says that was asked to stop after a stage."""
    text = f"stage={stage}: {found}; the next run goes on from here."
    return Report(folder, {"stage": stage}, "\n".join([text, *remarks]), (), ())


def preview_of(samples: Samples, plan: Plan, epochs: int = 5) -> dict[str, Any]:
    """A training image of each class, and how training changes it in its first epochs."""
    from heatproof.base.augment import augmented

    table = samples.table[samples.table["split"] == "train"].drop_duplicates("label").sort_values("label")
    if table.empty:
        return {}
    names = plan.train.augment or PREVIEWED
    images, ids, seed = samples.images(table.index.to_numpy()), list(table["image"]), plan.train.seed
    made = [images, *(augmented(images, names, seed, epoch, ids) for epoch in range(1, epochs + 1))]
    shown = {str(c): [one[i].permute(1, 2, 0).numpy() for one in made] for i, c in enumerate(table["label_name"])}
    caption = f"Training images as the net sees them in its first epochs: train.augment=[{', '.join(names)}]"
    other = "" if plan.train.augment else " (this run has none: the images stay as they are)"
    return {"preview": shown, "preview_caption": f"{caption}{other}."}


def passes_of(maps: Mapping[str, int], scores: Mapping[str, int]) -> dict[str, int]:
    """Images that the network was run on by this run after training, predictions left out: `used` in all, and the
    `minimum` that what was not stored asked for, `maps` for heat maps and `perturbed` ones; as the plan estimates it.

    `requested`: perturbed images asked for before equal ones were merged; `stored_cells`, `new_cells`: methods x
    metrics from the store and made anew.
    """
    made = maps.get("maps", 0) + scores["maps"]
    minimum = made + scores["used"]
    again = maps.get("again", 0) + scores.get("again", 0)
    counts = {"used": minimum + again, "minimum": minimum, "maps": made, "perturbed": scores["used"]}
    return counts | {name: scores[name] for name in ("requested", "stored_cells", "new_cells") if name in scores}


def facts_of(plan: Plan, seconds: dict[str, float], passes: Mapping[str, int], remarks: list[str]) -> dict[str, Any]:
    """What the report says about the run itself."""
    return {
        "name": plan.name,
        "overrides": list(plan.overrides),
        "plan_hash": plan.hash,
        "whole_hash": plan.whole_hash,
        "seedless_hash": plan.seedless_hash,
        "shard": [plan.eval.shard, plan.eval.shards],
        "seconds": seconds,
        "passes": {**passes, "estimated": plan.passes},
        # The audit of the data comes first; what the plan said of them already is said once.
        "warnings": list(dict.fromkeys([*remarks, *plan.warnings])),
        "device": plan.compute.device,
        "versions": versions(),
        "config": plan.config,
    }
