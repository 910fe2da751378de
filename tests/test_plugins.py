"""An explainer and a metric from a package of somebody's own, and an explainer from a file of `HEATPROOF_CONF`: the
examples of CONTRIBUTING.md as they stand there, fused and measured by a run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import SMALL, environment, user_folder

TEXT = Path(__file__).parents[1] / "CONTRIBUTING.md"
pytestmark = pytest.mark.skipif(not TEXT.is_file(), reason="needs the repository")


def examples():
    """File name -> content of the examples, by the name that stands before each."""
    return dict(re.findall(r"`((?:src/heatproof|conf)/\S+?)`:\s*\n\n```\w+\n(.*?)```", TEXT.read_text(), re.DOTALL))


def written(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages with one that brings `mymap` and `mymetric`."""
    site = tmp_path_factory.mktemp("site")
    given = {
        name.replace("src/heatproof/", ""): text
        for name, text in examples().items()
        if Path(name).stem in ("mymap", "mymetric")
    }
    assert set(given) == {
        "explainers/mymap.py", "conf/explainer/mymap.yaml", "metrics/mymetric.py", "conf/metric/mymetric.yaml"
    }  # fmt: skip
    written(site / "wardmaps", {"__init__.py": "", **given})
    written(
        site / "wardmaps-1.0.dist-info",
        {
            "METADATA": "Metadata-Version: 2.1\nName: wardmaps\nVersion: 1.0\n",
            "entry_points.txt": "[heatproof.plugins]\nwardmaps = wardmaps\n",
        },
    )
    return site


def call(site, user, work, *arguments):
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", "heatproof", *arguments], cwd=work, env={**environment(work, user), "PYTHONPATH": path},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_a_package_and_a_file_join_a_run(site, tmp_path):
    user = user_folder(tmp_path / "user")
    own = examples()
    written(
        user,
        {
            "explainers/ownmap.py": own["src/heatproof/explainers/mymap.py"].replace("def mymap", "def ownmap"),
            "explainer/ownmap.yaml": own["conf/explainer/mymap.yaml"].replace("mymap", "ownmap"),
        },
    )
    done = call(
        site, user, tmp_path, *SMALL[:1], *SMALL[3:], "views=robustcam6", "explainer=[mymap,ownmap,gradcam]",
        "explainer.ownmap.power=2.0", "metrics=[localisation]", "+metric@metrics.mine.mymetric=mymetric", "controls=[]",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    scores = pd.read_parquet(tmp_path / "results" / "latest" / "scores.parquet")
    assert {"mymap", "mymap:robustcam6.mean", "ownmap", "ownmap:robustcam6.median"} <= set(scores["method"])
    assert "mymetric" in set(scores["metric"])
    shown = call(site, user, tmp_path, "show=explainers")
    assert "mymap" in shown.stdout
    assert "ownmap" in shown.stdout
