"""Speed of training: images per second of an epoch beside the same net on a synthetic batch and beside a plain
ImageFolder loop, and frozen epochs on stored features beside the plain loop.

python scripts/bench_train.py [--model resnet18] [--size 224] [--batch 32] [--num 256] [--repeats 5] [--epochs 25]
                              [--folder CLASS_FOLDERS] [--precision bf16] [--peak-tflops 989]
                              [--policies scratch frozen]

What is compared alternates in one process; medians and ranges over the repeats. On a CPU seconds are CPU seconds of the
process, so that other processes hardly enter; on CUDA they are those of the clock, and the peak of memory and, with
--peak-tflops, the share of the card's peak are told, too. Without --folder the images are made up.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from torchvision import datasets, transforms
from tqdm import tqdm

from heatproof.base import device as devices
from heatproof.base.records import Samples
from heatproof.base.registry import Bound, bind, preset
from heatproof.base.settings import Compute, LoadSettings, TrainSettings
from heatproof.base.store import Store
from heatproof.stages.load import load
from heatproof.stages.train import train
from heatproof.stages.train.building import built
from heatproof.stages.train.epoch import Work, learn
from heatproof.stages.train.loop import OPTIMIZERS
from heatproof.stages.train.memory import Parts
from heatproof.stages.train.tasks import Tasks

AUGMENT = ("flip", "rotate")  # study 5


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    folder: Path
    images: Path
    samples: Samples
    model: Bound
    weights: Path
    settings: TrainSettings
    compute: Compute
    repeats: int

    @property
    def device(self) -> torch.device:
        return devices.resolve(self.compute)

    @property
    def frozen_model(self) -> Bound:
        return replace(self.model, settings={**self.model.settings, "weights": str(self.weights)})

    def seconds(self, run: Callable[[], object]) -> float:
        """CPU seconds of a call on a CPU, seconds of the clock on CUDA."""
        clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        start = clock()
        run()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - start


def tasks_of(bench: Bench, settings: TrainSettings) -> Tasks:
    """The stage's own net and tasks."""
    net = built(bench.frozen_model if settings.policy == "frozen" else bench.model, bench.samples, bench.device)
    net.to(memory_format=torch.channels_last)
    return Tasks(net, bench.samples, settings, bench.compute, bench.device, Store(bench.folder / "store"), {}, False)


def ours(bench: Bench, settings: TrainSettings) -> Callable[[], object]:
    """An epoch of the loop through the whole net."""
    tasks, phase = tasks_of(bench, settings), settings.all_phases()[0]
    # Through the net, also where features could be stored: those are a measurement of their own.
    task = replace(tasks.of(phase), logits=tasks._through_net)
    optimizer = OPTIMIZERS[settings.optimizer](task.parameters, lr=settings.lr)
    work = Work(task, settings, phase, optimizer, None, Parts(settings.batch + 1))
    epochs = iter(range(1, 10**6))
    return lambda: learn(work, next(epochs), [], tqdm(disable=True))


def step_of(bench: Bench, settings: TrainSettings) -> Callable[[Tensor, Tensor], None]:
    """A step of the same net without the loop around it."""
    tasks = tasks_of(bench, settings)
    task = tasks.of(settings.all_phases()[0])
    task.learning(True)
    optimizer = OPTIMIZERS[settings.optimizer](task.parameters, lr=settings.lr)

    def step(images: Tensor, labels: Tensor) -> None:
        with devices.autocast(bench.compute, bench.device):
            loss = F.cross_entropy(tasks.run(images).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def synthetic(bench: Bench, settings: TrainSettings) -> Callable[[], object]:
    """As many steps as an epoch has, on one batch that lies on the device."""
    step = step_of(bench, settings)
    rows = bench.samples.rows("train")
    images = bench.samples.images(rows[: settings.batch], bench.device)
    labels = torch.arange(len(images), device=bench.device) % len(bench.samples.classes)

    def run() -> None:
        for start in range(0, len(rows), settings.batch):
            n = len(rows[start : start + settings.batch])
            step(images[:n], labels[:n])

    return run


def image_folder(bench: Bench, settings: TrainSettings, workers: int = 0) -> Callable[[], object]:
    """An epoch as a tutorial writes it: files decoded and resized by torchvision in every epoch."""
    step = step_of(bench, settings)
    side = bench.samples.pixels.shape[1]
    steps = [transforms.Resize((side, side)), transforms.ToTensor()]
    if settings.augment:
        steps[1:1] = [transforms.RandomHorizontalFlip(), transforms.RandomRotation(10)]
    data = datasets.ImageFolder(str(bench.images), transforms.Compose(steps))
    loader = DataLoader(data, settings.batch, shuffle=True, num_workers=workers, drop_last=False)

    def run() -> None:
        for images, labels in loader:
            step(images.to(bench.device), labels.to(bench.device))

    return run


def compare(bench: Bench, title: str, runs: dict[str, Callable[[], object]], n: int) -> None:
    """Print images per second of each and the ratio of the first to the others, pair by pair."""
    for run in runs.values():
        run()
    if bench.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    taken = {name: [] for name in runs}
    for _ in range(bench.repeats):
        for name, run in runs.items():
            taken[name].append(bench.seconds(run))
    first = next(iter(runs))
    for name, seconds in taken.items():
        ratios = sorted(b / a for a, b in zip(taken[first], seconds, strict=True))
        print(
            f"{title:22} {name:22} {n / statistics.median(seconds):9.1f} images/s   speed of {first} over it "
            f"{statistics.median(ratios):6.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})",
            flush=True,
        )
    if bench.device.type == "cuda":
        print(f"{title:22} peak of memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)


def frozen_epochs(bench: Bench, epochs: int) -> None:
    """`epochs` frozen epochs by the command (build, extraction, training, storing) beside as many plain ones."""
    settings = replace(bench.settings, policy="frozen", unfreeze=0, epochs=epochs, augment=())
    plain_epoch = ours(bench, settings)
    plain_epoch()
    whole, plain = [], []
    for repeat in range(bench.repeats):
        store = Store(bench.folder / f"store{repeat}")
        whole.append(
            bench.seconds(
                lambda store=store: train(
                    bench.samples, bench.frozen_model, settings, bench.compute, store, progress=False
                )
            )
        )
        plain.append(bench.seconds(plain_epoch))
    ratios = sorted(epochs * b / a for a, b in zip(whole, plain, strict=True))
    print(
        f"frozen, {epochs} epochs: {statistics.median(whole):.1f} s with extraction, "
        f"{epochs} x {statistics.median(plain):.2f} s plain (training images alone): "
        f"{statistics.median(ratios):.1f} times as fast ({ratios[0]:.1f} to {ratios[-1]:.1f})",
        flush=True,
    )


def share_of_peak(bench: Bench, run: Callable[[], object], n: int, peak_tflops: float) -> None:
    """Print the floating-point operations of an epoch over what the card could do in its time."""
    counter = FlopCounterMode(display=False)
    with counter:
        run()
    flops = counter.get_total_flops()
    seconds = statistics.median(bench.seconds(run) for _ in range(bench.repeats))
    print(
        f"{flops / n / 1e9:.1f} GFLOP an image, {flops / seconds / 1e12 / peak_tflops:.1%} of {peak_tflops:g} TFLOP/s"
    )


def made_up(folder: Path, num: int, side: int) -> None:
    """Class folders with JPEG files of smooth noise, twice as large as needed on either side."""
    rng = np.random.default_rng(0)
    for index in range(num):
        small = rng.integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
        path = folder / f"class{index % 3}" / f"{index:05d}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((2 * side, 2 * side)).save(path, quality=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--num", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--policies", nargs="*", default=["scratch", "frozen"])
    options = parser.parse_args()
    compute = Compute("auto", options.precision, False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = options.folder or folder / "images"
        if options.folder is None:
            made_up(images, options.num, options.size)
        settings = LoadSettings(42, "random", (1.0, 0.0, 0.0), None, None, options.size, 3, None)
        samples = load(bind("dataset", "image_folder", {"root": str(images)}), settings, Store(folder / "store"))
        model, weights = preset("model", options.model), folder / "weights.pth"
        torch.manual_seed(0)
        torch.save(model(len(samples.classes) + 1, 3).state_dict(), weights)
        shipped = TrainSettings(
            policy="scratch", seed=0, epochs=1, batch=options.batch, lr=1e-3, unfreeze="all", phases=(),
            optimizer="adam", weight_decay=0.0, schedule="constant", warmup_epochs=0, plateau_factor=0.2,
            plateau_patience=3, min_lr=0.0, clip_norm=None, class_weights=False, balanced_sampling=False,
            label_smoothing=0.0, patience=0, monitor="val_loss", monitor_classes=(), augment=(), delete_cells=0,
            delete_grid=4, compile=False, checkpoint=True,
        )  # fmt: skip
        bench = Bench(folder, images, samples, model, weights, shipped, compute, options.repeats)
        n = len(samples.rows("train"))
        where = (
            torch.cuda.get_device_name() if bench.device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
        )
        print(f"{where}, {options.model}, {n} images of {options.size} px, batch {options.batch}, {options.precision}, "
              f"{options.repeats} repeats")  # fmt: skip
        for policy, unfreeze in (("scratch", "all"), ("frozen", 0)):
            if policy not in options.policies:
                continue
            for augment in ((), AUGMENT):
                if policy == "frozen" and not augment:
                    continue
                chosen = replace(shipped, policy=policy, unfreeze=unfreeze, augment=augment)
                runs = {
                    "heatproof": ours(bench, chosen),
                    "synthetic batch": synthetic(bench, chosen),
                    "ImageFolder": image_folder(bench, chosen),
                }
                compare(bench, f"{policy}{', flip + rotate' if augment else ''}", runs, n)
                if options.peak_tflops and not augment:
                    share_of_peak(bench, runs["heatproof"], n, options.peak_tflops)
        if "frozen" in options.policies:
            frozen_epochs(bench, options.epochs)


if __name__ == "__main__":
    main()
