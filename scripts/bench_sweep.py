"""Seconds to sum up a sweep of many finished jobs: its table, figure and page, and its classifiers compared.

    python scripts/bench_sweep.py [jobs]

Summaries are made up: 12 metrics of 2 methods, 200 test images; every fifth configuration has another net.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from heatproof.base.merit import Judged, figures
from heatproof.base.records import Ended
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


def main() -> None:
    count, seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 200, 5
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


if __name__ == "__main__":
    main()
