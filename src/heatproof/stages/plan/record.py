"""What a run is going to do, decided and checked: the one thing that `run` gets from the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heatproof.base.records import Method, MetricChoice
from heatproof.base.registry import Bound
from heatproof.base.settings import Compute, EvalSettings, ExplainSettings, LoadSettings, MeasureSettings, TrainSettings
from heatproof.base.study import spoken
from heatproof.base.trained import Trained

# Overrides that the name of a run says already, or that change no number.
UNTOLD = ("dataset", "model", "name", "dataset.root", "model.weights", "given", "device", "stage", "image", "study")
TITLE = 120  # characters


@dataclass(frozen=True)
class Tracking:
    """`tracking.*`: where the run goes in MLflow; None = the data set's name and the run's name."""

    experiment: str | None
    run_name: str | None
    upload: bool


@dataclass(frozen=True)
class ReportSettings:
    """`report.*`: folders of earlier runs (names or patterns), whether maps are kept as files, and the aligned map of
    each view with them, which figures the summary of a sweep shows (None = accuracy and every metric), and how strongly
    overlays cover the image (0 to 1, one column for each)."""

    runs: str | list[str] | None
    maps: bool
    views: bool
    figures: list[str] | None
    alphas: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """Every choice of a run, typed and checked.

    `methods`: those under test, then their controls. `config`: the composed config in plain types. `hash`: of all that
    decides a number (no paths, tracking, report, device, batch sizes of passes); `whole_hash`: of the same run without
    its shard, `seedless_hash`: and without its seeds. `anew`: run although the same plan has finished before. `split`:
    the kind of split that `load.split` comes to; `regrouped`: loading draws it again, with near-duplicates kept
    together. `counts`: split -> class -> images before that. `passes`: images that the network is run on after
    training, estimated; `seconds`: a rough guess for this machine. `trained`: the net
    of an earlier run that is taken as it is.
    """

    name: str
    stage: str | None
    show: str | None
    seed: int
    dataset: Bound
    dataset_name: str
    load: LoadSettings
    model: Bound
    model_name: str
    train: TrainSettings
    methods: tuple[Method, ...]
    metrics: tuple[MetricChoice, ...]
    explain: ExplainSettings
    eval: EvalSettings
    measure: MeasureSettings
    compute: Compute
    tracking: Tracking
    report: ReportSettings
    config: Mapping[str, Any]
    overrides: tuple[str, ...]
    hash: str
    whole_hash: str
    seedless_hash: str
    anew: bool
    split: str
    regrouped: bool
    counts: Mapping[str, Mapping[str, int]]
    passes: int
    seconds: float
    warnings: tuple[str, ...]
    trained: Trained | None = None

    @property
    def study(self) -> str | None:
        """The study that the run is part of."""
        name = self.config.get("study")
        return None if name is None else str(name)

    @property
    def picture(self) -> bool:
        """Whether maps of pictures are all that is asked for."""
        return self.config.get("image") is not None

    @property
    def trains_on_permuted_labels(self) -> bool:
        """Whether a metric compares with a net that learnt permuted labels, and nets are trained at all."""
        return self.train.policy != "none" and bool(compare_trainings(self.metrics))

    def title(self) -> str:
        """The name of the run and what was asked for beside the defaults, so that runs of a sweep tell what differs."""
        told = [text for text in self.overrides if text.lstrip("+~").partition("=")[0] not in UNTOLD]
        told = [text for text in told if not text.startswith(("tracking.", "report.", "sweep.", "hydra"))]
        title = " ".join([self.name, *(spoken(text.lstrip("+")) for text in told)])
        return title if len(title) <= TITLE else f"{title[: TITLE - 3]}..."

    def tracked(self) -> dict[str, Any]:
        """Experiment, run name, params and tags of the run in MLflow."""
        return {
            "experiment": self.tracking.experiment or self.dataset_name,
            "run_name": self.tracking.run_name or self.title(),
            "params": self.config,
            "tags": {
                "plan_hash": self.hash,
                "split": self.split,
                "protocol": self.measure.protocol,
                "device": self.compute.device,
                "precision": self.compute.precision,
            },
        }


def compare_trainings(metrics: Sequence[MetricChoice]) -> list[str]:
    """Labels of the metrics that compare with a net that was trained on permuted labels."""
    return [metric.label for metric in metrics if "labels" in metric.metric.facts.get("reruns", ())]
