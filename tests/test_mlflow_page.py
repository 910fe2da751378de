"""The MLflow page of a sweep in a real browser: what differs is named, metrics group, verdicts, figures."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from chromium import Page, chromium
from commands import SMALL, heatproof, user_folder

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep over widths and seeds."""
    work = tmp_path_factory.mktemp("work")
    keys = [key for key in SMALL if not key.startswith("model.width")]
    done = heatproof("-m", *keys, "model.width=2,4", "seed=1,2", work=work, user=user_folder(work / "conf"))
    assert done.returncode == 0, done.stderr
    return work / "here"


@pytest.fixture(scope="module")
def server(here: Path) -> Iterator[str]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{here}/mlruns/mlflow.db",
               "--port", str(port), "--workers", "1"]  # fmt: skip
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, cwd=here, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def runs(here: Path) -> dict[str, str]:
    """Name -> id of the jobs' runs."""
    with closing(sqlite3.connect(here / "mlruns" / "mlflow.db")) as store:
        return dict(store.execute("select name, run_uuid from runs where name not like 'sweep %'").fetchall())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("profile")) as one:
        one.size(1500, 1300)
        yield one


def shows(page: Page, address: str, text: str) -> str:
    """The text of a page as soon as it shows something."""
    page.open("about:blank")
    page.open(address)
    page.wait(f"document.body.innerText.includes({json.dumps(text)})")
    return page.ask("document.body.innerText")


def test_the_comparison_is_useful_as_it_stands(page: Page, server: str, runs: dict[str, str], tmp_path: Path) -> None:
    ids = urllib.parse.quote(json.dumps(list(runs.values())))
    experiments = urllib.parse.quote(json.dumps(["1"]))
    text = shows(page, f"{server}/#/compare-runs?runs={ids}&experiments={experiments}", "Show diff only")
    assert len(runs) == 4
    for width in (2, 4):
        for seed in (1, 2):
            assert any(f"model.width={width} seed={seed}" in name for name in runs)
    assert all(name in text for name in runs)
    # What the plot offers: the params that differ, and the first metric of a method under test.
    plotted = text.partition("Parameters:")[2].partition("Clear All")[0].split()
    assert {"model.width", "seed", "gradcam/loc_acc"} <= set(plotted)
    assert "dataset.seed" not in plotted
    page.ask("document.querySelector('[aria-label=\"Parameters - Show diff only\"]').click()")
    page.wait("!document.body.innerText.includes('dataset.seed')")
    shown = page.ask("document.body.innerText").partition("\nParameters\n")[2].partition("\nMetrics\n")[0]
    assert {line.split("\t")[0] for line in shown.splitlines() if "\t" in line} == {
        *("explain.seed", "model.width", "seed", "train.seed"),
    }
    # Metrics are grouped by their method: the list is in order, and shows as many as fit.
    linked = page.wait("[...document.querySelectorAll('a')].map(a => a.textContent).filter(t => /^[^ /]+[/]/.test(t))")
    assert linked == sorted(linked)
    assert linked[0].startswith("centre/")
    page.picture(tmp_path / "comparison.png", whole=False)


def test_a_run_shows_its_verdicts_and_figures(page: Page, server: str, runs: dict[str, str]) -> None:
    run = next(iter(runs.values()))
    shows(page, f"{server}/#/experiments/1/runs/{run}", "One seed")
    page.wait("/Parent run\\s+sweep /.test(document.body.innerText)")
    assert "Classifier: accuracy" in page.ask("document.body.innerText")
    text = shows(page, f"{server}/#/experiments/1/runs/{run}/artifacts", "report.html")
    for name in ("figures", "tables", "config.yaml", "summary.json", "run.log"):
        assert name in text


def test_the_list_counts_the_sweep_and_its_jobs(page: Page, server: str, runs: dict[str, str]) -> None:
    shows(page, f"{server}/#/experiments/1/runs", "matching runs")
    page.wait("/5\\s*matching runs/.test(document.body.innerText)")
