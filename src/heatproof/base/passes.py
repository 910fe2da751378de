"""The pass engine: runs the metrics of all methods on one block of images with as few network passes as there are
distinct images.

Each metric is a generator (or a plain function); the engine advances all of them together, collects what they ask for,
answers reruns of whole methods from shared explanation passes and perturbed images from one queue in which equal
(image, region, fill) requests are run once, on the inference twin, in full batches.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from heatproof.base import fields, fills, methods, values
from heatproof.base.case import PICTURED, Case, Curve, Perturbed, Regions, Request, Rerun, RerunMaps, Rows, Weighted
from heatproof.base.forwards import forwards_of, shared_forwards
from heatproof.base.randomise import OtherWeights, Weights
from heatproof.base.records import Classifier, Method, MetricChoice
from heatproof.base.registry import hash_of, preset

# An image of the block, what is in the place of its pixels, and two hashes of where.
Key = tuple[int, str, int, int]
WEIGHTED = "weighted"
# Partners of an image in the floor: rerun n is taken from partner n, so five reruns need five other images.
PARTNERS = 5
# Pixels a side of the maps in a figure, at most.
PICTURE_PX = 64
# Reruns that look at the net's weights: explainers that hold a net of their own cannot take part.
OTHER_NETS = ("weights", "labels")


@dataclass
class Passes:
    """Counts, in images: `used` = perturbed images run, `requested` = asked for before equal ones were merged,
    `maps` = images run to make maps in reruns, `again` = images run for maps that had been made before."""

    used: int = 0
    requested: int = 0
    maps: int = 0
    again: int = 0


@dataclass(frozen=True, eq=False)
class Block:
    """The images of one block and what holds for all methods.

    `masked`: images that have an annotation. `rerun`: images on which methods are rerun. `groups`: what counts as the
    same patient in the floor (the image itself where unknown). `logits` float64 (b, k) on the unperturbed image.
    """

    images: Float[Tensor, "b c h w"]
    ids: Sequence[str]
    groups: Sequence[str]
    targets: Int64[Tensor, " b"]
    logits: Float[Tensor, "b k"]
    masks: Bool[Tensor, "b h w"]
    masked: Bool[Tensor, " b"]
    rerun: Bool[Tensor, " b"]

    @property
    def p(self) -> Float[Tensor, " b"]:
        """p_c(x)."""
        return self.logits.softmax(1).gather(1, self.targets[:, None])[:, 0]


@dataclass(frozen=True, eq=False)
class Result:
    """Columns of one metric for the block, float64 (b,), and the status of the main one: NaN where it is not ok. The
    `curve` that it sums up, and a `picture` of the maps that it compares, of the first images at low resolution."""

    columns: Mapping[str, Float[Tensor, " b"]]
    status: Sequence[str]
    curve: Curve | None = None
    picture: Float[Tensor, "n k u v"] | None = None


@dataclass(eq=False)
class Task:
    """One metric on one method's maps; `rows` are the images it is run for, `status` says why not for the others."""

    case: Case
    choice: MetricChoice
    rows: Int64[Tensor, " r"]
    status: list[str]
    floor: bool = False
    reruns_seen: int = 0
    bad_reruns: list[Bool[Tensor, " r"]] = field(default_factory=list)


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
    ) -> None:
        self.classifier = classifier
        self.twin = twin
        self.seed = seed
        self.sign = sign
        self.protocol = protocol
        self.batch = batch
        self.passes = Passes()
        self.on_pass = on_pass
        self.others = others

    # ---- one block -------------------------------------------------------------------------------------------------

    def start(self, block: Block) -> None:
        """Forget the last block's answers and take this one."""
        self.block = block
        # Logits of a batch and the row: a tensor for each of a million images would fill a gigabyte.
        self._logits: dict[Key, tuple[Tensor, int]] = {}
        self._reruns: dict[tuple[str, tuple[object, ...]], RerunMaps] = {}
        self._bases: dict[str, tuple[Tensor, Tensor]] = {}
        self._taken: dict[tuple[object, ...], Case] = {}
        self._hashed: dict[int, list[list[Key]]] = {}
        self._partners, self._paired = _partners(block, self.seed)

    def case(self, method: Method, maps: Tensor, valid: Tensor | None = None, view_maps: Tensor | None = None) -> Case:
        """The block under one method; its maps are kept as the reference of reruns."""
        block = self.block
        finite = torch.isfinite(maps).all(-1).all(-1)
        maps = torch.where(finite[:, None, None], maps, torch.zeros_like(maps))
        if self.sign == "absolute":
            maps = maps.abs()
        if valid is None:
            valid = torch.ones_like(maps, dtype=torch.bool)
        if method.alter != "shifted":
            self._bases[str(method.name)] = (maps, valid)
        blocks = None if self.others is None else self.others.blocks
        return Case(
            method, maps, block.images, block.targets, block.p, block.masks, valid, block.ids, self.seed, view_maps,
            weight_blocks=blocks,
        )  # fmt: skip

    def task(self, case: Case, choice: MetricChoice, map_status: Sequence[str], *, floor: bool = False) -> Task:
        """A metric on a case: decides per image whether it can be run at all."""
        facts = choice.metric.facts
        needs = facts.get("needs", ())
        other_net = set(facts.get("reruns", ())) & set(OTHER_NETS)
        status = []
        for i, of_map in enumerate(map_status):
            why = "ok"
            if "mask" in needs and not self.block.masked[i]:
                why = "undefined:no_mask"
            elif of_map in ("nonfinite", "failed") or ("order" in needs and of_map != "ok"):
                why = f"undefined:{of_map}"
            elif facts.get("reruns") and case.method is not None and not case.method.remade:
                why = "undefined:no_method"
            elif other_net and (self.others is None or (case.method is not None and not case.method.takes_any_net)):
                why = "undefined:no_other_net"
            elif "labels" in other_net and self.others is not None and self.others.permuted is None:
                why = "undefined:no_training"
            elif facts.get("reruns") and not self.block.rerun[i]:
                why = "undefined:not_rerun"
            elif floor and not self._paired[i]:
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
        with shared_forwards(self.classifier, batch=self.batch, twin=self.twin, lasting=True):
            groups = sorted(together.values(), key=lambda places: sorted(_kinds(tasks, places)))
            for number, places in enumerate(groups):
                found.update(zip(places, self._run([tasks[i] for i in places]), strict=True))
                wanted = {kind for later in groups[number + 1 :] for kind in _kinds(tasks, later)}
                self._reruns = {key: maps for key, maps in self._reruns.items() if _kind_of(key) in wanted}
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
            self._answer_reruns([(tasks[i], request) for i, requests in asked.items() for request in requests])
            self._answer_perturbed([(tasks[i], request) for i, requests in asked.items() for request in requests])
            for i, requests in list(asked.items()):
                answers = tuple(self._answer(tasks[i], request) for request in requests)
                self._advance(i, answers, streams, asked, values_of)
            # States of a net are asked for one after the other: together they would fill the memory.
            self._reruns = {key: maps for key, maps in self._reruns.items() if not _of_another_net(key)}
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

    # ---- answers ---------------------------------------------------------------------------------------------------

    def _answer(self, task: Task, request: Request) -> Any:
        if isinstance(request, Rerun):
            return self._rerun_answer(task, request)
        if isinstance(request, Regions):
            found = [self._read(task, keys, request.read) for keys in self._keys(task, request)]
            return torch.stack(found, 1)
        (keys,) = self._keys(task, request)
        return self._read(task, keys, request.read)

    def _read(self, task: Task, keys: Sequence[Key], read: str) -> Float[Tensor, " r"]:
        logits = torch.stack([self._logits_of(key) for key in keys]).double()
        targets = task.case.targets
        if read == "p":
            return logits.softmax(1).gather(1, targets[:, None])[:, 0]
        if read == "rest":
            return logits.softmax(1).scatter(1, targets[:, None], 0.0).sum(1)
        if read == "hit":
            return (logits.argmax(1) == targets).double()
        assert read == "logit", read
        return logits.gather(1, targets[:, None])[:, 0]

    def _logits_of(self, key: Key) -> Tensor:
        untouched = key[1] != WEIGHTED and key[2:] == (0, 0)
        if untouched:
            return self.block.logits[key[0]]
        batch, row = self._logits[key]
        return batch[row]

    def _keys(self, task: Task, request: Perturbed | Regions | Weighted) -> list[list[Key]]:
        """The key of each image (inner) of each region (outer) of a request; hashed once."""
        if id(request) not in self._hashed:
            rows = task.rows.tolist()
            self._hashed[id(request)] = [
                [(row, _kind(request), *hashes) for row, hashes in zip(rows, _hashes(content), strict=True)]
                for content in _contents(request)
            ]
        return self._hashed[id(request)]

    def _rerun_answer(self, task: Task, request: Rerun) -> RerunMaps:
        method = self._method_of(task, request)
        if request.partner is not None:
            return self._partner_answer(str(method.name), task.rows, request.partner)
        whole = self._reruns[(str(method.name), _rerun_key(task, request))]
        rows = task.rows
        own = whole
        if len(rows) != len(whole.ok):
            own = RerunMaps(
                whole.maps[rows], whole.reference[rows], whole.valid[rows], whole.ok[rows], whole.changed[rows]
            )
        if task.floor:
            partner = self._partners[task.reruns_seen % PARTNERS][rows]
            own = replace(
                own,
                maps=whole.maps[partner],
                valid=own.valid & whole.valid[partner],
                ok=own.ok & whole.ok[partner],
            )
        task.reruns_seen += 1
        task.bad_reruns.append(~own.ok)
        return own

    def _partner_answer(self, name: str, rows: Tensor, number: int) -> RerunMaps:
        """The map of a partner of each image beside its own; not ok where an image has none."""
        maps, valid = self._bases[name]
        partner = self._partners[number % PARTNERS][rows]
        fine = torch.tensor([status == "ok" for status in values.status_of(maps)], device=maps.device)
        paired = torch.tensor(self._paired, device=maps.device)[rows]
        seen = valid[rows] & valid[partner]
        return RerunMaps(maps[partner], maps[rows], seen, fine[partner] & paired, torch.zeros_like(paired))

    def _method_of(self, task: Task, request: Rerun) -> Method:
        method = task.case.method
        assert method is not None
        if method.alter == "shifted":
            # A shifted copy is rerun as what it is a copy of; the metric knows what its map is compared with.
            method = replace(method, alter=None)
        return methods.single_of(method) if request.single else method

    def _answer_reruns(self, asked: Sequence[tuple[Task, Request]]) -> None:
        missing: dict[tuple[object, ...], tuple[Task, Rerun, dict[str, Method]]] = {}
        for task, request in asked:
            if isinstance(request, Rerun) and request.partner is None:
                method, key = self._method_of(task, request), _rerun_key(task, request)
                if (str(method.name), key) not in self._reruns:
                    # Weights are those of one map; noises and views are the same for all methods.
                    alone = () if request.weights is None else (str(method.name),)
                    missing.setdefault((*key, *alone), (task, request, {}))[2][str(method.name)] = method
        for task, request, wanted in missing.values():
            self._rerun(task, request, [*wanted.values()])

    def _rerun(self, task: Task, request: Rerun, wanted: Sequence[Method]) -> None:
        """Maps of whole methods on a changed copy of the images on which methods are rerun."""
        block = self.block
        rows = torch.nonzero(block.rerun)[:, 0] if request.weights is None else task.rows
        for method in wanted:
            if str(method.name) not in self._bases:
                self._make_base(method)
        net = self._net_of(request)
        parts: dict[str, list[tuple[Tensor, Tensor]]] = {str(method.name): [] for method in wanted}
        ways: list[Any] = []
        changed = torch.zeros(len(block.ids), dtype=torch.bool, device=block.images.device)
        with shared_forwards(net, batch=self.batch):
            for chunk in rows.split(self.batch):
                ids = [block.ids[i] for i in chunk.tolist()]
                images, unwarp = self._changed(task, request, chunk, ids)
                ways.append(unwarp)
                if request.uniform and len(chunk):
                    changed[chunk] = self.twin(images).argmax(1) != block.logits[chunk].argmax(1)
                    self.passes.used += len(chunk)
                    self.on_pass(len(chunk))
                counter = methods.MapPasses()
                made = methods.explain_batch(
                    net,
                    images,
                    self._targets(request, net, chunk, images, ids),
                    wanted,
                    ids=ids,
                    others=methods.other_classes(block.logits[chunk], block.targets[chunk]),
                    seed=self.seed,
                    role=_role(request),
                    protocol=self.protocol,
                    passes=counter,
                )
                self.passes.maps += counter.images
                self.on_pass(counter.images)
                for name, batch in made.items():
                    parts[name].append((batch.maps, batch.valid))
        for method in wanted:
            name = str(method.name)
            aligned = self._aligned(name, rows, parts[name], ways)
            self._reruns[(name, _rerun_key(task, request))] = replace(aligned, changed=changed)

    def _net_of(self, request: Rerun) -> Classifier:
        """The classifier, or the one with the weights that a rerun asks for."""
        if request.net is None:
            return self.classifier
        assert self.others is not None, "an engine without other weights refuses such metrics"
        before = self.others.passes
        net = self.others.classifier_with(request.net)
        self.passes.maps += self.others.passes - before
        self.on_pass(self.others.passes - before)
        return net

    def _targets(
        self, request: Rerun, net: Classifier, chunk: Tensor, images: Tensor, ids: Sequence[str]
    ) -> Int64[Tensor, " r"]:
        """The classes that a rerun explains."""
        targets = self.block.targets[chunk]
        if request.target == "anew":
            self.passes.used += len(chunk)
            self.on_pass(len(chunk))
            return forwards_of(net).logits(images).argmax(1)
        if request.target == "other":
            seeds = [fields.image_seed(self.seed, image, "other class") for image in ids]
            draw = fields.uniform(torch.tensor(seeds, dtype=torch.int64, device=targets.device), ())
            num_classes = self.block.logits.shape[1]
            # Never the class itself: 1 to K - 1 classes further on.
            return (targets + 1 + (draw * (num_classes - 1)).long().clamp_max(num_classes - 2)) % num_classes
        return targets

    def _changed(
        self, task: Task, request: Rerun, chunk: Tensor, ids: Sequence[str]
    ) -> tuple[Float[Tensor, "r c h w"], Any]:
        """The images that methods are rerun on, and the way back from a view."""
        images = self.block.images[chunk]
        if request.view is not None:
            return methods.seen_as(preset("view", request.view), images, ids, self.seed)
        if request.weights is not None:
            return images * request.weights[torch.searchsorted(task.rows, chunk)][:, None], None
        if request.noise is None:
            return images, None
        if request.uniform:
            return methods.jittered(images, ids, self.seed, request.noise, request.std), None
        std: float | Tensor = request.std
        if request.normalized and self.classifier.norm_std is not None:
            unit = torch.tensor(self.classifier.norm_std, device=images.device)
            std = request.std * unit.expand(images.shape[1])[:, None, None]
        return methods.noisy(images, ids, self.seed, request.noise, std), None

    def _make_base(self, method: Method) -> None:
        """Maps of a method that is no row of the table, e.g. the single view that a study's stability reruns."""
        block = self.block
        counter = methods.MapPasses()
        chunks = [
            methods.explain_batch(
                self.classifier,
                block.images[rows],
                block.targets[rows],
                [method],
                ids=[block.ids[i] for i in rows.tolist()],
                seed=self.seed,
                protocol=self.protocol,
                passes=counter,
            )[str(method.name)]
            for rows in torch.arange(len(block.ids), device=block.images.device).split(self.batch)
        ]
        self.passes.again += counter.images
        self.case(method, torch.cat([chunk.maps for chunk in chunks]), torch.cat([chunk.valid for chunk in chunks]))

    def _aligned(
        self, name: str, rows: Tensor, parts: Sequence[tuple[Tensor, Tensor]], ways: Sequence[Any]
    ) -> RerunMaps:
        shape = self.block.images.shape[0], *self.block.images.shape[-2:]
        device = self.block.images.device
        base_maps, base_valid = self._bases[name]
        maps = torch.zeros(shape, device=device)
        # A noisy copy is compared with the map itself, a view with the map sent there and back.
        reference = base_maps if ways[0] is None else base_maps.clone()
        valid = torch.ones(shape, dtype=torch.bool, device=device) & base_valid
        ok = torch.zeros(shape[0], dtype=torch.bool, device=device)
        for chunk, (made, seen), unwarp in zip(rows.split(self.batch), parts, ways, strict=True):
            good = torch.tensor([status == "ok" for status in values.status_of(made)], device=device)
            ok[chunk] = good
            made = torch.where(good[:, None, None], made, torch.zeros_like(made))
            if self.sign == "absolute":
                made = made.abs()
            if unwarp is None:
                maps[chunk] = made
                valid[chunk] &= seen
                continue
            aligned, inside = unwarp(made)
            back, _ = unwarp(seen.float())
            maps[chunk] = aligned
            valid[chunk] &= inside & (back > 0.999)
            reference[chunk] = unwarp(unwarp.warp(base_maps[chunk]))[0]
        return RerunMaps(maps, reference, valid, ok, torch.zeros_like(ok))

    def _answer_perturbed(self, asked: Sequence[tuple[Task, Request]]) -> None:
        """Run each distinct (image, region, fill) once, fill by fill in full batches."""
        self._hashed = {}
        queue: dict[str, dict[Key, tuple[Perturbed | Regions | Weighted, int, list[int]]]] = {}
        for task, request in asked:
            if isinstance(request, Rerun):
                continue
            for step, keys in enumerate(self._keys(task, request)):
                self.passes.requested += len(keys)
                for place, key in enumerate(keys):
                    if key not in self._logits and (key[1] == WEIGHTED or key[2:] != (0, 0)):
                        queue.setdefault(key[1], {}).setdefault(key, (request, step, [place]))
        for kind, entries in queue.items():
            keys = list(entries)
            start = 0
            while start < len(keys):
                part = keys[start : start + self.batch]
                try:
                    logits = self._run_perturbed(kind, part, [_content(*entries[key]) for key in part])
                except torch.OutOfMemoryError:
                    if self.batch == 1:
                        raise
                    self.batch = max(1, self.batch // 2)
                    torch.cuda.empty_cache()
                    continue
                self._logits.update((key, (logits, row)) for row, key in enumerate(part))
                self.passes.used += len(part)
                self.on_pass(len(part))
                start += len(part)

    def _run_perturbed(self, kind: str, part: Sequence[Key], contents: Sequence[Tensor]) -> Tensor:
        block = self.block
        images = block.images[torch.tensor([key[0] for key in part], device=block.images.device)]
        content = torch.cat(list(contents))
        if kind == WEIGHTED:
            return self.twin(images * content[:, None])
        seeds = torch.tensor(
            [fields.image_seed(self.seed, block.ids[key[0]], f"fill:{kind}") for key in part],
            dtype=torch.int64,
            device=block.images.device,
        )
        mean = self.classifier.train_mean
        filled = fills.fill(
            kind,
            images,
            content,
            seeds,
            mean=None if mean is None else torch.tensor(mean, device=block.images.device),
            norm_mean=None
            if self.classifier.norm_mean is None
            else torch.tensor(self.classifier.norm_mean, device=block.images.device),
        )
        return self.twin(filled)


def _rerun_key(task: Task, request: Rerun) -> tuple[object, ...]:
    """Equal keys are one rerun of a method."""
    if request.weights is None:
        return request.key
    return (*request.key, *task.rows.tolist(), *_hashes(request.weights))


def _kinds(tasks: Sequence[Task], places: Sequence[int]) -> set[str]:
    """The kinds of reruns that some metrics ask for."""
    return {kind for i in places for kind in tasks[i].choice.metric.facts.get("reruns", ())}


def _kind_of(key: tuple[str, tuple[object, ...]]) -> str | None:
    """The kind of a rerun that metrics of several labels share: "noise" or "view"; None for others."""
    noise, _, view, *_ = key[1]
    return "view" if view is not None else "noise" if noise is not None else None


def _of_another_net(key: tuple[str, tuple[object, ...]]) -> bool:
    """Whether a rerun was made with other weights."""
    return any(isinstance(part, Weights) for part in key[1])


def _role(request: Rerun) -> str:
    """The name of a rerun: what stochastic views and explainers draw anew for."""
    if request.weights is not None:
        return "weighted"
    if request.net is not None or request.target is not None:
        weights = None if request.net is None else asdict(request.net)
        return f"net:{hash_of([weights, request.target])}"
    return f"view:{request.view}" if request.view else f"{'uniform' if request.uniform else 'noise'}{request.noise}"


def _kind(request: Perturbed | Regions | Weighted) -> str:
    """The queue that a request belongs to: its fill, or that it weighs pixels."""
    return WEIGHTED if isinstance(request, Weighted) else request.fill


def _contents(request: Perturbed | Regions | Weighted) -> Iterator[Tensor]:
    """Regions or weights (b, h, w) of each image of a request, made one at a time: together they may fill memory."""
    for i in range(request.n if isinstance(request, Regions) else 1):
        yield _content(request, i, slice(None))


def _content(request: Perturbed | Regions | Weighted, i: int, rows: Rows) -> Tensor:
    if isinstance(request, Regions):
        return request.region(i, rows)
    return (request.weights if isinstance(request, Weighted) else request.region)[rows]


def _hashes(content: Bool[Tensor, "b h w"] | Float[Tensor, "b h w"]) -> list[tuple[int, int]]:
    """Two 64-bit hashes of each region or map of weights, both 0 for an empty region: words of eight bytes are weighted
    with fixed random odd numbers."""
    flat = content.flatten(1).contiguous().view(torch.uint8)
    pad = -flat.shape[1] % 8
    if pad:
        flat = torch.nn.functional.pad(flat, (0, pad))
    words = flat.contiguous().view(torch.int64)
    seeds = torch.tensor([1, 2], dtype=torch.int64, device=content.device)
    weights = fields.hash_keys(seeds, words.shape[1]) | 1
    first = (words * weights[0]).sum(1)
    second = ((words ^ (words >> 17)) * weights[1]).sum(1)
    return list(zip(first.tolist(), second.tolist(), strict=True))


def _partners(block: Block, seed: int) -> tuple[list[Int64[Tensor, " b"]], list[bool]]:
    """Partner images of other groups for the floor: PARTNERS row numbers per image, seeded by (seed, image id); and
    which images have enough of them."""
    eligible = [i for i, use in enumerate(block.rerun.tolist()) if use]
    table, paired = [], []
    for i, image in enumerate(block.ids):
        others = [j for j in eligible if block.groups[j] != block.groups[i]]
        others.sort(key=lambda j: block.ids[j])
        random.Random(fields.image_seed(seed, image, "partners")).shuffle(others)
        distinct: list[int] = []
        for j in others:
            if all(block.groups[j] != block.groups[k] for k in distinct):
                distinct.append(j)
            if len(distinct) == PARTNERS:
                break
        paired.append(len(distinct) == PARTNERS)
        table.append(distinct if paired[-1] else [i] * PARTNERS)
    columns = torch.tensor(table, dtype=torch.int64, device=block.images.device)
    return list(columns.T), paired
