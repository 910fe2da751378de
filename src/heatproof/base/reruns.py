"""Whole methods run again on changed images, by other nets or for other classes, and maps of other images in their
place: what metrics of stability, of views and of sanity compare a map with."""

from __future__ import annotations

import random
from collections.abc import Container, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from heatproof.base import fields, methods, values
from heatproof.base.case import Request, Rerun, RerunMaps
from heatproof.base.forwards import forwards_of, shared_forwards
from heatproof.base.perturbed import hashes
from heatproof.base.randomise import Weights
from heatproof.base.records import Classifier, Method
from heatproof.base.registry import hash_of, preset
from heatproof.base.tasks import Block, Running, Seen, Task

# Partners of an image in the floor: rerun n is taken from partner n, so five reruns need five other images.
PARTNERS = 5
# Reruns that look at the net's weights: explainers that hold a net of their own cannot take part.
OTHER_NETS = ("weights", "labels")
# A rerun by the method's name and what it was run on.
Key = tuple[str, tuple[object, ...]]


class Reruns:
    """Answers reruns of methods on one block. `partners`: row numbers of PARTNERS images for each one, `paired`: which
    images have so many."""

    def __init__(self, running: Running, block: Block) -> None:
        self.running = running
        self.block = block
        self.held: dict[Key, RerunMaps] = {}
        self._bases: dict[str, tuple[Tensor, Tensor]] = {}
        self.partners, self.paired = partners_of(block, running.seed)

    def keep(self, method: Method, maps: Float[Tensor, "b h w"], valid: Tensor) -> None:
        """Let reruns of a method be compared with its maps."""
        self._bases[str(method.name)] = (maps, valid)

    def release(self, wanted: Container[str | None]) -> None:
        """Forget maps of reruns of other kinds than those: they are some 20 MB a rerun and method at 224 px."""
        self.held = {key: maps for key, maps in self.held.items() if _kind_of(key) in wanted}

    def release_other_nets(self) -> None:
        """Forget the maps of nets of other weights."""
        self.held = {key: maps for key, maps in self.held.items() if not _of_another_net(key)}

    def run(self, asked: Sequence[tuple[Task, Request]]) -> None:
        """Run the methods that have not been run like this before."""
        missing: dict[tuple[object, ...], tuple[Task, Rerun, dict[str, Method]]] = {}
        for task, request in asked:
            if isinstance(request, Rerun) and request.partner is None:
                method, key = self._method_of(task, request), _rerun_key(task, request)
                if (str(method.name), key) not in self.held:
                    # Weights are those of one map; noises and views are the same for all methods.
                    alone = () if request.weights is None else (str(method.name),)
                    missing.setdefault((*key, *alone), (task, request, {}))[2][str(method.name)] = method
        for task, request, wanted in missing.values():
            self._rerun(task, request, [*wanted.values()])

    def answer(self, task: Task, request: Rerun) -> RerunMaps:
        """The maps that a rerun asked for."""
        method = self._method_of(task, request)
        if request.partner is not None:
            return self._partner_answer(str(method.name), task.rows, request.partner)
        whole = self.held[(str(method.name), _rerun_key(task, request))]
        rows = task.rows
        own = whole
        if len(rows) != len(whole.ok):
            own = RerunMaps(
                whole.maps[rows], whole.reference[rows], whole.valid[rows], whole.ok[rows], whole.changed[rows]
            )
        if task.floor:
            partner = self.partners[task.reruns_seen % PARTNERS][rows]
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
        partner = self.partners[number % PARTNERS][rows]
        fine = torch.tensor([status == "ok" for status in values.status_of(maps)], device=maps.device)
        paired = torch.tensor(self.paired, device=maps.device)[rows]
        seen = valid[rows] & valid[partner]
        return RerunMaps(maps[partner], maps[rows], seen, fine[partner] & paired, torch.zeros_like(paired))

    def _method_of(self, task: Task, request: Rerun) -> Method:
        method = task.case.method
        assert method is not None
        if method.alter == "shifted":
            # A shifted copy is rerun as what it is a copy of; the metric knows what its map is compared with.
            method = replace(method, alter=None)
        return methods.single_of(method) if request.single else method

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
        with shared_forwards(net, batch=self.running.batch) as forwards:
            for chunk in rows.split(self.running.batch):
                ids = [block.ids[i] for i in chunk.tolist()]
                images, unwarp = self._changed(task, request, chunk, ids)
                ways.append(unwarp)
                counter = methods.MapPasses()
                with forwards.noting(images) as noted:
                    made = methods.explain_batch(
                        net,
                        images,
                        self._targets(request, net, chunk, images, ids),
                        wanted,
                        ids=ids,
                        others=methods.other_classes(block.logits[chunk], block.targets[chunk]),
                        seed=self.running.seed,
                        role=_role(request),
                        protocol=self.running.protocol,
                        passes=counter,
                    )
                    logits = noted()
                self.running.mapped(counter.images)
                if request.uniform and len(chunk):
                    if logits is None:
                        logits = self.running.twin(images)
                        self.running.perturbed(len(chunk))
                    changed[chunk] = logits.argmax(1) != block.logits[chunk].argmax(1)
                for name, batch in made.items():
                    parts[name].append((batch.maps, batch.valid))
                if self.running.watch is not None:
                    found = {name: batch.maps for name, batch in made.items()}
                    self.running.watch(Seen(_told(request), chunk, images, maps=found))
        for method in wanted:
            name = str(method.name)
            aligned = self._aligned(name, rows, parts[name], ways)
            self.held[(name, _rerun_key(task, request))] = replace(aligned, changed=changed)

    def _net_of(self, request: Rerun) -> Classifier:
        """The classifier, or the one with the weights that a rerun asks for."""
        if request.net is None:
            return self.running.classifier
        assert self.running.others is not None, "an engine without other weights refuses such metrics"
        before = self.running.others.passes
        net = self.running.others.classifier_with(request.net)
        self.running.mapped(self.running.others.passes - before)
        return net

    def _targets(
        self, request: Rerun, net: Classifier, chunk: Tensor, images: Tensor, ids: Sequence[str]
    ) -> Int64[Tensor, " r"]:
        """The classes that a rerun explains."""
        targets = self.block.targets[chunk]
        if request.target == "anew":
            self.running.perturbed(len(chunk))
            return forwards_of(net).logits(images).argmax(1)
        if request.target == "other":
            seeds = [fields.image_seed(self.running.seed, image, "other class") for image in ids]
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
            return methods.seen_as(preset("view", request.view), images, ids, self.running.seed)
        if request.weights is not None:
            return images * request.weights[torch.searchsorted(task.rows, chunk)][:, None], None
        if request.noise is None:
            return images, None
        if request.uniform:
            return methods.jittered(images, ids, self.running.seed, request.noise, request.std), None
        std: float | Tensor = request.std
        if request.normalized and self.running.classifier.norm_std is not None:
            unit = torch.tensor(self.running.classifier.norm_std, device=images.device)
            std = request.std * unit.expand(images.shape[1])[:, None, None]
        return methods.noisy(images, ids, self.running.seed, request.noise, std), None

    def _make_base(self, method: Method) -> None:
        """Maps of a method that is no row of the table, e.g. the single view that a study's stability reruns."""
        block = self.block
        counter = methods.MapPasses()
        chunks = [
            methods.explain_batch(
                self.running.classifier,
                block.images[rows],
                block.targets[rows],
                [method],
                ids=[block.ids[i] for i in rows.tolist()],
                seed=self.running.seed,
                protocol=self.running.protocol,
                passes=counter,
            )[str(method.name)]
            for rows in torch.arange(len(block.ids), device=block.images.device).split(self.running.batch)
        ]
        self.running.passes.again += counter.images
        maps = torch.cat([chunk.maps for chunk in chunks])
        valid = torch.cat([chunk.valid for chunk in chunks])
        self.keep(method, values.as_measured(maps, self.running.sign), valid)

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
        for chunk, (made, seen), unwarp in zip(rows.split(self.running.batch), parts, ways, strict=True):
            good = torch.tensor([status == "ok" for status in values.status_of(made)], device=device)
            ok[chunk] = good
            made = torch.where(good[:, None, None], made, torch.zeros_like(made))
            if self.running.sign == "absolute":
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


def _rerun_key(task: Task, request: Rerun) -> tuple[object, ...]:
    """Equal keys are one rerun of a method."""
    if request.weights is None:
        return request.key
    return (*request.key, *task.rows.tolist(), *hashes(request.weights))


def _kind_of(key: tuple[str, tuple[object, ...]]) -> str | None:
    """The kind of a rerun that metrics of several labels share: "noise" or "view"; None for others."""
    noise, _, view, *_ = key[1]
    return "view" if view is not None else "noise" if noise is not None else None


def _of_another_net(key: tuple[str, tuple[object, ...]]) -> bool:
    """Whether a rerun was made with other weights."""
    return any(isinstance(part, Weights) for part in key[1])


def _told(request: Rerun) -> str:
    """What a rerun does, in words."""
    if request.net is not None:
        redrawn = f"{len(request.net.redrawn)} modules re-drawn, draw {request.net.seed + 1}"
        return "trained on permuted labels" if request.net.permuted else redrawn
    if request.target is not None:
        return f"explained class: {request.target}"
    if request.weights is not None:
        return "weighted by the map"
    if request.view is not None:
        return f"view {request.view.removeprefix('rerun_')}"
    return "the image again" if request.noise is None else f"noise {request.noise + 1}"


def _role(request: Rerun) -> str:
    """The name of a rerun: what stochastic views and explainers draw anew for."""
    if request.weights is not None:
        return "weighted"
    if request.net is not None or request.target is not None:
        weights = None if request.net is None else asdict(request.net)
        return f"net:{hash_of([weights, request.target])}"
    return f"view:{request.view}" if request.view else f"{'uniform' if request.uniform else 'noise'}{request.noise}"


def partners_of(block: Block, seed: int) -> tuple[list[Int64[Tensor, " b"]], list[bool]]:
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
