"""The pass engine: runs the metrics of all methods on one block of images with as few network passes as there are
distinct images.

Each metric is a generator (or a plain function); the engine advances all of them together, collects what they ask for,
answers reruns of whole methods from shared explanation passes (`reruns`) and perturbed images from one queue
(`perturbed`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from heatproof.base import values
from heatproof.base.case import PICTURED, Annotated, Case, Curve, Request, Rerun, Validation
from heatproof.base.forwards import shared_forwards
from heatproof.base.perturbed import PerturbedImages
from heatproof.base.randomise import OtherWeights
from heatproof.base.records import Classifier, Method, MetricChoice
from heatproof.base.reruns import OTHER_NETS, Reruns
from heatproof.base.tasks import Block, Passes, Result, Running, Seen, Task
from heatproof.base.validation import ValidationMaps

# Pixels a side of the maps in a figure, at most.
PICTURE_PX = 64


class Engine:
    """Runs tasks of one block at a time; holds the twin, the seeds and the pass counts."""

    def __init__(
        self,
        classifier: Classifier,
        twin: Callable[[Tensor], Tensor],
        *,
        seed: int,
        sign: str = "signed",
        protocol: str = "sound",
        batch: int = 32,
        on_pass: Callable[[int], None] = lambda n: None,
        others: OtherWeights | None = None,
        validation: ValidationMaps | None = None,
        watch: Callable[[Seen], None] | None = None,
    ) -> None:
        self.running = Running(
            classifier, twin, seed, sign, protocol, batch, on_pass, others, validation, watch
        )  # fmt: skip

    @property
    def classifier(self) -> Classifier:
        """The classifier that is asked."""
        return self.running.classifier

    @property
    def passes(self) -> Passes:
        """The images run so far."""
        return self.running.passes

    # ---- one block -------------------------------------------------------------------------------------------------

    def start(self, block: Block) -> None:
        """Forget the last block's answers and take this one."""
        self.block = block
        self.reruns = Reruns(self.running, block)
        self.perturbed = PerturbedImages(self.running, block)
        self._taken: dict[tuple[object, ...], Case] = {}

    def case(
        self,
        method: Method,
        maps: Tensor,
        valid: Tensor | None = None,
        view_maps: Tensor | None = None,
        spread: Tensor | None = None,
    ) -> Case:
        """The block under one method; its maps are kept as the reference of reruns."""
        block, others = self.block, self.running.others
        maps = values.as_measured(maps, self.running.sign)
        if valid is None:
            valid = torch.ones_like(maps, dtype=torch.bool)
        if method.alter != "shifted":
            self.reruns.keep(method, maps, valid)
        return Case(
            method, maps, block.images, block.targets, block.p, block.masks, valid, block.ids, self.running.seed,
            view_maps, spread, weight_blocks=None if others is None else others.blocks,
        )  # fmt: skip

    def task(self, case: Case, choice: MetricChoice, map_status: Sequence[str], *, floor: bool = False) -> Task:
        """A metric on a case: decides per image whether it can be run at all."""
        facts = choice.metric.facts
        needs = facts.get("needs", ())
        again = bool(facts.get("reruns")) or "validation" in needs
        other_net = set(facts.get("reruns", ())) & set(OTHER_NETS)
        status = []
        for i, of_map in enumerate(map_status):
            why = "ok"
            if "mask" in needs and not self.block.masked[i]:
                why = "undefined:no_mask"
            elif of_map in ("nonfinite", "failed") or ("order" in needs and of_map != "ok"):
                why = f"undefined:{of_map}"
            elif "spread" in needs and case.spread is None:
                why = "undefined:single_view"
            elif again and case.method is not None and not case.method.remade:
                why = "undefined:no_method"
            elif "validation" in needs and self.running.validation is None:
                why = "undefined:no_validation"
            elif other_net and (
                self.running.others is None or (case.method is not None and not case.method.takes_any_net)
            ):
                why = "undefined:no_other_net"
            elif "labels" in other_net and self.running.others is not None and self.running.others.permuted is None:
                why = "undefined:no_training"
            elif facts.get("reruns") and not self.block.rerun[i]:
                why = "undefined:not_rerun"
            elif floor and not self.reruns.paired[i]:
                why = "undefined:few_images"
            status.append(why)
        rows = torch.tensor([i for i, why in enumerate(status) if why == "ok"], dtype=torch.int64)
        rows = rows.to(case.maps.device)
        return Task(self._take(case, rows), choice, rows, status, floor)

    def _take(self, case: Case, rows: Int64[Tensor, " r"]) -> Case:
        """The case for some rows, with a list of undefined images of its own. Hundreds of metrics see the same rows of
        the same maps: they share the tensors, or a block at 224 px would fill 20 GB."""
        if len(rows) == len(self.block.ids):
            return replace(case, undefined=[], curves=[], pictures=[])
        picked = tuple(rows.tolist())
        if (case, picked) not in self._taken:
            # The images of a choice of rows are the same for all methods.
            images = self._taken[picked].images if picked in self._taken else None
            self._taken[case, picked] = case.take(rows, images)
            self._taken.setdefault(picked, self._taken[case, picked])
        return replace(self._taken[case, picked], undefined=[], curves=[], pictures=[])

    def run(self, tasks: Sequence[Task]) -> list[Result]:
        """Results of all tasks, in their order.

        One metric is run for all methods before the next one starts: what a metric holds for all images is released,
        and answers are kept, so that no image is run twice. Metrics of one kind of rerun follow each other, and its
        maps are released when no further one asks: they are some 20 MB a rerun and method at 224 px.
        """
        together: dict[str, list[int]] = {}
        for i, task in enumerate(tasks):
            # Metrics that ask for other nets go together, for those are made once and not kept.
            shared = set(task.choice.metric.facts.get("reruns", ())) & set(OTHER_NETS)
            key = "other nets" if shared else f"{task.choice.label}/{task.choice.protocol}"
            together.setdefault(key, []).append(i)
        found: dict[int, Result] = {}
        with shared_forwards(self.classifier, batch=self.running.batch, twin=self.running.twin, lasting=True):
            groups = sorted(together.values(), key=lambda places: sorted(_kinds(tasks, places)))
            for number, places in enumerate(groups):
                found.update(zip(places, self._run([tasks[i] for i in places]), strict=True))
                wanted = {kind for later in groups[number + 1 :] for kind in _kinds(tasks, later)}
                self.reruns.release(wanted)
        return [found[i] for i in range(len(tasks))]

    def _run(self, tasks: Sequence[Task]) -> list[Result]:
        streams: dict[int, Generator[Any, Any, Any]] = {}
        asked: dict[int, tuple[Request, ...]] = {}
        values_of: dict[int, dict[str, Tensor]] = {}
        for i, task in enumerate(tasks):
            if not len(task.rows):
                values_of[i] = {}
                continue
            outcome = task.choice.metric(task.case)
            if inspect.isgenerator(outcome):
                streams[i] = outcome
                self._advance(i, None, streams, asked, values_of)
            else:
                values_of[i] = outcome
        while asked:
            together = [(tasks[i], request) for i, requests in asked.items() for request in requests]
            self.reruns.run(together)
            self.perturbed.run(together)
            for i, requests in list(asked.items()):
                answers = tuple(self._answer(tasks[i], request) for request in requests)
                self._advance(i, answers, streams, asked, values_of)
            # States of a net are asked for one after the other: together they would fill the memory.
            self.reruns.release_other_nets()
        return [self._result(task, values_of[i]) for i, task in enumerate(tasks)]

    @staticmethod
    def _advance(
        i: int, answers: tuple[Any, ...] | None, streams: dict, asked: dict, values_of: dict[int, dict[str, Tensor]]
    ) -> None:
        try:
            asked[i] = next(streams[i]) if answers is None else streams[i].send(answers)
        except StopIteration as end:
            asked.pop(i, None)
            values_of[i] = end.value

    def _result(self, task: Task, found: Mapping[str, Tensor]) -> Result:
        status = list(task.status)
        rows = task.rows.tolist()
        facts = task.choice.metric.facts
        names = facts["columns"]
        columns = {name: torch.full((len(status),), torch.nan, dtype=torch.float64) for name in names}
        for name, column in columns.items():
            if name in found:
                column[task.rows.cpu()] = found[name].double().cpu()
        reasons = list(task.case.undefined)
        # Some metrics leave a rerun without a map out of their means and say so themselves.
        if task.bad_reruns and facts.get("protocol") != "study" and not facts.get("partial"):
            reasons.insert(0, (torch.stack(task.bad_reruns).any(0), "rerun", False))
        for where, reason, main_only in reasons:
            for place in torch.nonzero(where)[:, 0].tolist():
                row = rows[place]
                if status[row] == "ok":
                    status[row] = f"undefined:{reason}"
                for name in names[:1] if main_only else names:
                    columns[name][row] = torch.nan
        for row in torch.nonzero(columns[names[0]].isnan())[:, 0].tolist():
            if status[row] == "ok":
                status[row] = "undefined:nan"
        return Result(columns, status, self._curve(task, status), self._picture(task))

    @staticmethod
    def _picture(task: Task) -> Float[Tensor, "n k u v"] | None:
        """The maps that the metric kept of the first images, NaN for images that it was not run for."""
        if not task.case.pictures:
            return None
        (kept,) = task.case.pictures
        count = min(PICTURED, len(task.status))
        shown = torch.full((len(kept), count, *kept.shape[-2:]), torch.nan)
        for place, row in enumerate(task.rows[:count].tolist()):
            if row < count:
                shown[:, row] = kept[:, place].cpu()
        height, width = (min(PICTURE_PX, pixels) for pixels in kept.shape[-2:])
        return torch.nn.functional.adaptive_avg_pool2d(shown, (height, width))

    @staticmethod
    def _curve(task: Task, status: Sequence[str]) -> Curve | None:
        """The curve that the metric kept, NaN where the metric is not ok."""
        if not task.case.curves:
            return None
        (kept,) = task.case.curves
        y = torch.full((len(status), kept.y.shape[1]), torch.nan, dtype=torch.float64)
        y[task.rows.cpu()] = kept.y.double().cpu()
        y[torch.tensor([why != "ok" for why in status])] = torch.nan
        return Curve(kept.x.double().cpu(), y)

    def _answer(self, task: Task, request: Request) -> Any:
        if isinstance(request, Rerun):
            return self.reruns.answer(task, request)
        if isinstance(request, Validation):
            return self._validated(task.case.method)
        return self.perturbed.answer(task, request)

    def _validated(self, method: Method | None) -> Annotated:
        assert method is not None and self.running.validation is not None, "such tasks have no rows"  # noqa: PT018
        return self.running.validation.of(method, self.running)


def _kinds(tasks: Sequence[Task], places: Sequence[int]) -> set[str]:
    """The kinds of reruns that some metrics ask for."""
    return {kind for i in places for kind in tasks[i].choice.metric.facts.get("reruns", ())}
