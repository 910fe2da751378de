"""Speed and memory of loading: epochs without a model, a cold build of the cache, peak memory by size of the data.

python scripts/bench_data.py FOLDER [--size 224] [--batch 32] [--repeats 5] [--copies 4] [--phantoms 1000 20000]

FOLDER holds class folders of images at full resolution; each is used `--copies` times, with a byte more at its end that
no decoder reads, so that every copy is new to the cache. Epochs are counted from the second one on, against
torchvision's ImageFolder and DataLoader with 0, 2 and 4 workers and the same resizing; the cold build (hashes,
decoding, storing, checksums) against a plain loop over Pillow. Both alternate in one process. Memory is that of a
process of its own per size.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from heatproof.base.records import Samples
from heatproof.base.registry import Bound, bind
from heatproof.base.settings import LoadSettings
from heatproof.base.sources import source_of
from heatproof.base.store import Store
from heatproof.stages.load import load
from heatproof.stages.load.cache import decoded

WORKERS = (0, 2, 4)


def settings(size: int, channels: int) -> LoadSettings:
    return LoadSettings(42, "grouped", (0.6, 0.2, 0.2), None, None, size, channels, None)


def folder_data(folder: Path) -> Bound:
    return bind("dataset", "image_folder", {"root": str(folder), "mask_pattern": None})


def copied(folder: Path, copies: int, to: Path) -> Path:
    for file in folder.glob("*/*"):
        (to / file.parent.name).mkdir(parents=True, exist_ok=True)
        for number in range(copies):
            (to / file.parent.name / f"{file.stem}-{number}{file.suffix}").write_bytes(
                file.read_bytes() + bytes(number)
            )
    return to


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of processor time, children included."""
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    run()
    return time.perf_counter() - wall, sum(os.times()[:4]) - cpu


def said(name: str, values: list[float], unit: str = "s") -> str:
    return f"{name:28} {statistics.median(values):8.4f} {unit}  ({min(values):.4f} to {max(values):.4f})"


def epochs(samples: Samples, batch: int) -> Callable[[], None]:
    order = np.random.default_rng(0)

    def epoch() -> None:
        rows = order.permutation(len(samples.table))
        for start in range(0, len(rows), batch):
            samples.images(rows[start : start + batch])

    return epoch


def reference_epochs(folder: Path, size: int, batch: int, workers: int) -> Callable[[], None]:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = [v2.Resize((size, size)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    data = ImageFolder(str(folder), v2.Compose(steps))
    loader = torch.utils.data.DataLoader(data, batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def compare_epochs(folder: Path, size: int, batch: int, repeats: int, store: Path) -> None:
    samples = load(folder_data(folder), settings(size, 3), Store(store))
    runs = {"memory map": epochs(samples, batch)}
    runs |= {f"ImageFolder, {n} workers": reference_epochs(folder, size, batch, n) for n in WORKERS}
    for run in runs.values():
        run()  # the first epoch starts workers and fills the page cache
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(timed(run))
    print(f"one epoch of {len(samples.table)} images, batch {batch}, from the second on")
    for name, measured in times.items():
        print(said(name, [wall for wall, _ in measured]))
    ours, *others = (statistics.median(wall for wall, _ in measured) for measured in times.values())
    print(f"ratio to the best of ImageFolder: {min(others) / ours:.1f}")


def plain_loop(files: list[Path], size: int) -> Iterator[np.ndarray]:
    for file in files:
        with Image.open(file) as image:
            yield np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))


def compare_builds(folder: Path, size: int, repeats: int, scratch: Path) -> None:
    files = sorted(path for path in folder.glob("*/*") if path.is_file())
    data = folder_data(folder)
    times: dict[str, list[tuple[float, float]]] = {"plain Pillow loop": [], "cache": []}
    list(plain_loop(files, size))  # fills the page cache
    for number in range(repeats):
        store = Store(scratch / str(number))

        def build(store: Store = store) -> None:
            source = source_of(data, settings(size, 3))
            decoded(data, source, source.rows, settings(size, 3), store)

        times["plain Pillow loop"].append(timed(lambda: np.stack(list(plain_loop(files, size)))))
        times["cache"].append(timed(build))
    print(f"cold build of {len(files)} images at {size} px")
    for name, measured in times.items():
        print(said(name, [wall for wall, _ in measured]))
        print(said("  processor time", [cpu for _, cpu in measured]))
    wall, cpu = (statistics.median(p[i] / o[i] for p, o in zip(*times.values(), strict=True)) for i in (0, 1))
    print(f"ratio, median of pairs: {wall:.2f} on the clock, {cpu:.2f} in processor time")


def memory(num_images: int, size: int) -> None:
    """Peak resident memory of a process that decodes so many phantoms, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--measure", str(num_images), "--size", str(size), "--store", folder]
        subprocess.run(command, check=True)


def measure(num_images: int, size: int, store: Path) -> None:
    def peak_mib() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    few, many = (bind("dataset", "phantom", {"root": None, "num_images": n}) for n in (30, num_images))
    load(few, settings(size, 1), Store(store))  # imports and first-time buffers
    before, start = peak_mib(), time.perf_counter()
    samples = load(many, settings(size, 1), Store(store))
    seconds = time.perf_counter() - start
    mib = (samples.pixels.nbytes + (0 if samples.masks is None else samples.masks.nbytes)) / 2**20
    print(
        f"{num_images:6} phantoms of {size} px ({mib:.0f} MiB of pixels and masks): "
        f"peak {peak_mib():.0f} MiB, {peak_mib() - before:.0f} MiB above the start; {seconds:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--phantoms", type=int, nargs="*", default=[1000, 20000])
    parser.add_argument("--phantom-size", type=int, default=64)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.measure, options.size, options.store)
        return
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if options.folder is not None:
            folder = copied(options.folder, options.copies, scratch / "images")
            compare_builds(folder, options.size, options.repeats, scratch)
            compare_epochs(folder, options.size, options.batch, options.repeats, scratch / "epochs")
    for num_images in options.phantoms:
        memory(num_images, options.phantom_size)


if __name__ == "__main__":
    main()
