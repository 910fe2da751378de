"""What each phase of a training learns: the net with some layers frozen, on pixels or on stored features."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from heatproof.base import device as devices
from heatproof.base.augment import augmented
from heatproof.base.layers import head_names
from heatproof.base.records import Samples
from heatproof.base.settings import Compute, Phase, TrainSettings
from heatproof.stages.train import frozen
from heatproof.stages.train.deletion import cells_deleted
from heatproof.stages.train.epoch import Task
from heatproof.stages.train.freezing import changing, freeze, learning, trained_layers

if TYPE_CHECKING:
    from heatproof.base.store import Store

Logits = Callable[[np.ndarray, int | None], Tensor]


class Tasks:
    """The task of each phase on one net, and `remarks` on how it is done."""

    def __init__(
        self,
        net: nn.Module,
        samples: Samples,
        settings: TrainSettings,
        compute: Compute,
        device: torch.device,
        store: Store,
        identity: dict[str, Any],
        progress: bool,
    ) -> None:
        self.net, self.samples, self.settings = net, samples, settings
        self.compute, self.device, self.store, self.identity = compute, device, store, identity
        self.progress = progress
        self.remarks: list[str] = []
        self.heads = head_names(net)
        self.images = samples.table["image"].to_numpy()
        self.labels = torch.from_numpy(samples.table["label"].fillna(-1).to_numpy().astype(np.int64)).to(device)
        compiled = settings.compile and device.type == "cuda"
        if settings.compile and not compiled:
            self.remarks.append(f"train.compile is for CUDA; the net runs as it is on {device.type}")
        self.run: Callable[[Tensor], Tensor] = torch.compile(net) if compiled else net
        # Named once for all phases: the best weights of one are where the next one starts.
        layers = {name for phase in settings.all_phases() for name in trained_layers(net, self.heads, phase.unfreeze)}
        self.weights = changing(net, layers)

    def of(self, phase: Phase) -> Task:
        """The task of a phase, its layers unfrozen."""
        trained = trained_layers(self.net, self.heads, phase.unfreeze)
        freeze(self.net, trained)
        monitored = tuple(self.samples.classes.index(name) for name in self.settings.monitor_classes)
        return Task(
            logits=(self._features() if self._backbone_is_given(phase) else None) or self._through_net,
            learning=lambda on: learning(self.net, trained, on),
            parameters=tuple(weight for weight in self.net.parameters() if weight.requires_grad),
            weights=self.weights,
            labels=self.labels,
            images=self.images,
            train_rows=self.samples.rows("train"),
            val_rows=self.samples.rows("val"),
            num_classes=len(self.samples.classes),
            monitored=monitored,
        )

    def _backbone_is_given(self, phase: Phase) -> bool:
        """Whether neither the phase nor one before it trains the backbone."""
        phases = self.settings.all_phases()
        last = max(number for number, other in enumerate(phases) if other == phase)
        return all(other.unfreeze == 0 for other in phases[: last + 1])

    def _through_net(self, rows: np.ndarray, epoch: int | None) -> Tensor:
        images = self.samples.images(rows, self.device)
        if epoch is not None:
            settings, names = self.settings, self.images[rows]
            images = augmented(images, settings.augment, settings.seed, epoch, names)
            images = cells_deleted(images, settings.delete_cells, settings.delete_grid, settings.seed, epoch, names)
        with devices.autocast(self.compute, self.device):
            return self.run(images)

    def _features(self) -> Logits | None:
        """Logits of the head on stored features; None where images change or what follows the head is unknown."""
        if self.settings.augment or self.settings.delete_cells:
            return None
        samples = self.samples
        self.net.eval()
        head = self.net.get_submodule(self.heads[0]) if len(self.heads) == 1 else None
        after = head and frozen.tail(self.net, head, samples.images(samples.rows("train")[:2], self.device))
        if head is None or after is None:
            self.remarks.append("the backbone runs in every epoch: what follows this net's head is not known")
            return None
        rows = np.concatenate([samples.rows("train"), samples.rows("val")])
        features = frozen.stored_features(
            self.net,
            head,
            samples,
            rows,
            self.store,
            {"model": self.identity},
            device=self.device,
            batch=self.settings.batch,
            progress=self.progress,
        )
        place = np.full(len(samples.table), -1)
        place[rows] = np.arange(len(rows))

        def logits(some: np.ndarray, _epoch: int | None) -> Tensor:
            with devices.autocast(self.compute, self.device):
                return after(head(torch.from_numpy(features[place[some]]).to(self.device)))

        return logits
