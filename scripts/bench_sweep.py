"""Seconds and memory of what comes after the numbers: a sweep's summary, a report, delivery to MLflow, a second start.

    python scripts/bench_sweep.py sweep [--jobs 200]       table, figure and page of a sweep, its classifiers compared
    python scripts/bench_sweep.py report [--images 10000]  the report of 10 methods x 9 metrics
    python scripts/bench_sweep.py tracking                 the share of a run's time that its outbox and MLflow take
    python scripts/bench_sweep.py again                    the same command after it has finished

Summaries of `sweep` are made up: 12 metrics of 2 methods, 200 test images; every fifth configuration has another net.
The scores of `report` are noise; a share of each method's images has none (`--undefined 0.005`); images and maps have
32 px. `tracking` and `again` run the default data set, five epochs on 200 slices, in processes of their own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from heatproof.base.merit import Judged, figures
from heatproof.base.records import Ended, Scores
from heatproof.stages.report.compare import write_comparison
from heatproof.stages.report.sweep import merged_shards, write_sweep


def run(folder: Path, number: int, seeds: int, n: int = 200) -> None:
    """What a finished job leaves that is read here."""
    rng = np.random.default_rng(number)
    labels = np.arange(n) % 2
    p = np.clip(0.5 + 0.4 * (labels - 0.5) + 0.3 * rng.normal(size=n), 0.01, 0.99)
    p = np.stack([1 - p, p], axis=1)
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(n)], "split": "test", "label": labels})
    table = table.assign(predicted=p.argmax(1), group=None, p_a=p[:, 0], p_b=p[:, 1])
    folder.mkdir()
    table.to_parquet(folder / "predictions.parquet", index=False)
    cell = {"mean": 0.5, "lo": 0.4, "hi": 0.6, "n": 64, "better": "up", "undefined": {}}
    names = [f"metric_{i}" for i in range(12)]
    summary = {
        "name": "bench",
        "overrides": [f"model=m{number // seeds}", f"seed={number % seeds}"],
        "plan_hash": str(number),
        "seedless_hash": str(number // seeds),
        "data_hash": "data",
        "seed": 0,
        "positive": "b",
        "classifier": figures(Judged(labels, p, ("a", "b")), seed=0),
        "model": {"parameters": 1000},
        "tested": ["gradcam", "lime"],
        "main": names,
        "methods": {
            m: {name: cell | {"mean": float(rng.random())} for name in names} for m in ("gradcam", "lime", "random")
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def bench_sweep(count: int, seeds: int = 5) -> None:
    """Five summaries of made-up jobs."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for number in range(count):
            run(folder / str(number), number, seeds)
        few = [folder / str(i) for i in range(min(count, 50))]
        jobs = [Ended(i, f"model=m{i // seeds} seed={i % seeds}", "FINISHED", folder / str(i)) for i in range(count)]
        for _ in range(5):
            start, cpu = time.perf_counter(), time.process_time()
            write_sweep(merged_shards(jobs, folder), folder)
            middle, cpu_middle = time.perf_counter(), time.process_time()
            write_comparison(few, folder)
            end, cpu_end = time.perf_counter(), time.process_time()
            print(f"{count} jobs: summary {middle - start:.1f} s ({cpu_middle - cpu:.1f} s of CPU)")
            print(f"{len(few)} jobs compared: {end - middle:.1f} s ({cpu_end - cpu_middle:.1f} s of CPU)")


def bench_report(images: int, methods: int = 10, undefined: float = 0) -> None:
    """One report of made-up scores: seconds, peak memory before and after."""
    sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / name) for name in ("", "report")]
    import fabricated

    from heatproof.stages.report import report

    own = tuple(fabricated.method(f"cam{number}") for number in range(methods))
    nine = [choice for choice in fabricated.METRICS if choice.label in TRUE_NINE]
    rng = np.random.default_rng(0)
    frames = []
    names = np.array([f"case_{i:03d}.png" for i in range(images)])
    lost = {made.name: rng.random(images) < undefined for made in own}
    for choice in nine:
        for made in own:
            frames.append(pd.DataFrame({
                "image": names, "group": None, "label": 0, "predicted": 0, "method": str(made.name), "base": "cam",
                "layer": None, "views": None, "fusion": None, "control_of": None, "metric": choice.label,
                "column": choice.label, "identity": choice.label, "protocol": "sound", "fill": None, "target": 0,
                "seed": 0, "value": np.where(lost[made.name], np.nan, rng.random(images)),
                "status": np.where(lost[made.name], "undefined:empty_map", "ok"),
            }))  # fmt: skip
    table = pd.concat(frames, ignore_index=True)
    empty = fabricated.scores(3)
    scores = Scores(table, empty.curves, empty.pairs, own, tuple(nine), {}, {str(m.name): {"ok": images} for m in own})
    records = fabricated.records(images)
    heat = rng.random((images, fabricated.SIDE, fabricated.SIDE), np.float32)
    maps = replace(records["maps"], methods=own, files={str(m.name): heat for m in own}, sd_files={},
                   status={str(m.name): ("ok",) * images for m in own})  # fmt: skip
    records |= {"maps": maps}
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        report(Path(folder), **records, scores=scores, facts=fabricated.FACTS, seed=0)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = (Path(folder) / "report.html").stat().st_size
    print(f"{images} images x {methods} methods x {len(nine)} metrics: {seconds:.1f} s ({cpu:.1f} s of CPU), peak "
          f"{before / 1024:.0f} -> {after / 1024:.0f} MiB, page {size / 1e6:.1f} MB")  # fmt: skip


def bench_runs(what: str, keys: Sequence[str]) -> None:
    """Commands in processes of their own: what of them is tracking, or how long the second start takes."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "HEATPROOF_STORE": f"{folder}/store"}
        command = [sys.executable, "-c", TIMED, "dataset.num_images=200", "train.epochs=5", *keys]
        for number in range(12 if what == "tracking" else 6):
            start = time.perf_counter()
            more = [f"seed={number}"] if what == "tracking" else []
            alone = {"ALONE": "1"} if what == "tracking" and number % 2 else {}
            done = subprocess.run(
                [*command, *more], cwd=folder, env=env | alone, capture_output=True, text=True, check=True
            )
            seconds = time.perf_counter() - start
            said = f"{what} {number}{' without a courier' if alone else ''}"
            print(f"{said}: {seconds:.2f} s; {done.stdout.splitlines()[-1]}", flush=True)


# The command, with the time of all that writes outboxes and sends them, also in the process that was made ready before.
TIMED = """
import os, sys, time
from heatproof.base import outbox
from heatproof.stages import track
began = time.perf_counter()
spent, waited = {"outbox": 0.0, "MLflow": 0.0}, {"outbox": 0.0, "MLflow": 0.0}
def processors():
    return sum(os.times()[:4])
def timed(function, name):
    def call(*arguments, **more):
        start, clock = processors(), time.perf_counter()
        try:
            return function(*arguments, **more)
        finally:
            spent[name] += processors() - start
            waited[name] += time.perf_counter() - clock
    return call
for name in ("begin", "metrics", "artifact", "finish"):
    setattr(outbox.Outbox, name, timed(getattr(outbox.Outbox, name), "outbox"))
track.Courier.send = timed(track.Courier.send, "MLflow")
if os.environ.get("ALONE"):
    track.Courier.start = lambda self: None
from heatproof.cli import main
code = main(sys.argv[1:])
whole, clock = processors(), time.perf_counter() - began
parts = [f"{one} {spent[one]:.2f} s ({waited[one]:.2f} s of the clock, {waited[one] / clock:.1%})" for one in spent]
print(", ".join(parts), f"of {whole:.1f} s of CPU, {clock:.1f} s of the clock")
sys.exit(code)
"""
TRUE_NINE = ("faith", "loc_acc", "consist_iou", "fidelity", "stability", "consist_pearson", "view_variance", "view_iou",
             "view_spearman")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sweep", "report", "tracking", "again"))
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--undefined", type=float, default=0)
    parser.add_argument("keys", nargs="*", help="further keys of the runs")
    asked = parser.parse_args()
    if asked.what == "sweep":
        bench_sweep(asked.jobs)
    elif asked.what == "report":
        bench_report(asked.images, undefined=asked.undefined)
    else:
        bench_runs(asked.what, asked.keys)


if __name__ == "__main__":
    main()
