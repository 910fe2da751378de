"""Sanity in the report: which method passes is what its numbers say, and the figures are drawn from them."""

from dataclasses import replace

import fabricated
import numpy as np
import pandas as pd
import pytest

from heatproof.stages.report import sanity
from heatproof.stages.report.drawing import STYLE, save
from heatproof.stages.report.findings import find
from heatproof.stages.report.verdicts import verdicts

N, STATES = 24, 5
FACTS = {"better": "down", "range": (-1, 1), "reruns": ("weights",), "ranked": False}
SETTINGS = {"order": "top_down", "blocks": "coarse", "seeds": 2, "similarity": "spearman"}
METRIC = fabricated.MetricChoice("randomization", fabricated.bound("metric", "randomization", FACTS, SETTINGS))
METHODS = tuple(
    fabricated.method(name, *more)
    for name, *more in (("forgets",), ("stays",), ("unsure",), ("random", "all"), ("edge", "all"))
)
# Likeness in the last state, and its spread; two random nets' maps are alike by 0.3, other images' by 0.2.
LAST = {"forgets": (0.25, 0.05), "stays": (0.9, 0.05), "unsure": (0.4, 0.25), "random": (0.0, 0.05), "edge": (1.0, 0)}


def scores():
    rng = np.random.default_rng(0)
    images = [f"image{i}" for i in range(N)]
    frames, curves = [], []
    for method in METHODS:
        name = str(method.name)
        mean, spread = LAST[name]
        last = np.clip(mean + spread * rng.normal(size=N), -1, 1)
        columns = {
            "randomization": last,
            "randomization_networks": 0.3 + 0.05 * rng.normal(size=N),
            "randomization_images": 0.2 + 0.05 * rng.normal(size=N),
        }
        for column, values in columns.items():
            frames.append(
                pd.DataFrame(
                    {
                        "image": images,
                        "group": None,
                        "method": name,
                        "metric": "randomization",
                        "column": column,
                        "value": values,
                        "status": "ok",
                    }
                )
            )
        for step in range(STATES):
            y = 1 + (last - 1) * step / (STATES - 1)
            more = {"method": name, "metric": "randomization", "identity": "x", "x": float(step)}
            curves.append(pd.DataFrame({"image": images, **more, "y": y}))
    pictures = {
        (str(method.name), "randomization"): rng.normal(size=(STATES, 3, 8, 8)).astype(np.float32) for method in METHODS
    }
    pictures["stays", "randomization"][2, 0] = np.nan
    table, curve = pd.concat(frames, ignore_index=True), pd.concat(curves, ignore_index=True)
    return fabricated.Scores(table, curve, pd.DataFrame(), METHODS, (METRIC,), {}, pictures=pictures)


@pytest.fixture(scope="module")
def findings():
    return find(scores(), seed=0)


def test_the_larger_floor_and_the_margin_decide(findings):
    found = {str(m.name): sanity.outcomes(findings, str(m.name))[0] for m in METHODS}
    assert {name: one.word for name, one in found.items()} == {
        "forgets": "passes",
        "stays": "fails",
        "unsure": "undecided",
        "random": "passes",
        "edge": "fails",
    }
    assert found["forgets"].floor_of == "maps of two random nets"
    assert found["forgets"].floor == pytest.approx(0.3, abs=0.03)
    assert found["forgets"].difference.n == N


def test_a_map_of_the_image_alone_fails_though_its_own_floors_are_1(findings):
    scored = scores()
    table = scored.table.copy()
    table.loc[(table["method"] == "edge") & (table["column"] == "randomization_networks"), "value"] = 1.0
    (outcome,) = sanity.outcomes(find(replace(scored, table=table), seed=0), "edge")
    assert outcome.difference.mean == 0
    assert outcome.word == "fails"
    assert outcome.draws_the_image


def test_a_pass_that_owes_to_the_image_says_so():
    scored = scores()
    table = scored.table.copy()
    table.loc[(table["method"] == "forgets") & (table["column"] == "randomization_networks"), "value"] += 0.1
    (line, *_) = sanity.lines(find(replace(scored, table=table), seed=0))
    assert "much of them is the image" in line


def test_verdicts_say_so_with_their_numbers(findings):
    lines = verdicts(findings)
    (good,) = [line for line in lines if line.startswith("forgets:")]
    assert "forget with the net (likeness 0.2" in good
    assert "margin 0.1, n = 24" in good
    (bad,) = [line for line in lines if line.startswith("stays:")]
    assert "stay when the net forgets" in bad
    (controls,) = [line for line in lines if line.startswith("Controls of these tests")]
    assert "fails for edge; passes for random" in controls


def test_nothing_is_said_without_floors(findings):
    scored = scores()
    bare = replace(scored, table=scored.table[scored.table["column"] == "randomization"])
    assert not list(sanity.lines(find(bare, seed=0)))


def test_figures_show_states_and_maps(findings, tmp_path):
    import matplotlib

    records = fabricated.records()
    with matplotlib.rc_context(fname=STYLE):
        drawn = list(
            sanity.drawings(
                findings,
                scores(),
                samples=records["samples"],
                classifier=replace(records["classifier"], module=None),
                maps=records["maps"],
            )
        )
        assert [drawing.name for drawing in drawn] == ["randomisation", "randomisation_maps"]
        for drawing in drawn:
            save(drawing.figure, [tmp_path / f"{drawing.name}.png"])
    curve = drawn[0].figure.axes[0]
    assert len(curve.get_lines()) == 5 + 3 + 1  # methods, floors of those under test, the zero
    assert [text.get_text() for text in curve.get_xticklabels()] == ["0", "1", "2", "3", "4"]
    assert "n = 24" in drawn[0].caption
    rows, columns = drawn[1].figure.axes[0].get_subplotspec().get_gridspec().get_geometry()
    assert (rows, columns) == (4, 1 + STATES)  # three methods and edge
