"""The examples in the texts work as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"`(?:src/heatproof|conf)/([a-z]+/[a-z]+\.(?:py|yaml))`:\n\n```[a-z]+\n(.*?)```", re.DOTALL)
USE_EVERYTHING = """
import sys
from pathlib import Path

import torch
from torch import nn

import heatproof as hp
from heatproof.base import registry

registry.load_plugins()
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
images = torch.rand(2, 3, 8, 8)
maps = hp.explain(net.eval(), images, explainer="mymap", settings={"power": 2.0}).tensor()
plain = hp.explain(net, images, explainer="mymap").tensor()
torch.testing.assert_close(maps.amax((1, 2)), plain.amax((1, 2)) ** 2)

from heatproof.base.case import Case
from heatproof.base.regions import top_region

masks = torch.zeros(2, 8, 8, dtype=torch.bool)
masks[0, :, :4] = True
top = torch.zeros(2, 8, 8)
top[:, :, 0] = 1
case = Case(None, top, images, torch.zeros(2), torch.zeros(2), masks, torch.ones_like(masks), ["a", "b"], 0)
values = registry.bind("metric", "mymetric", {"q": 0.125})(case)["mymetric"]
assert values[0] == 1, values
assert [(where.tolist(), why) for where, why, _ in case.undefined] == [([False, True], "empty_mask")]

source = registry.bind("dataset", "mydata", {"root": sys.argv[1]})()
assert [(row.image, row.label, row.group) for row in source.rows] == [("a/p1_2.png", 0, "p1"), ("b/p2_1.png", 1, "p2")]
assert source.read(source.rows[0]).shape == (5, 6)
"""


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text().replace("\\\n", " ")
    found = re.findall(r"^    heatproof (.+?)(?:\s+#.*)?$", text, re.MULTILINE)
    return [re.sub(r"\s+", " ", line) for line in found]


def test_contributing_examples_make_choices_that_work(tmp_path):
    from PIL import Image

    blocks = BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert len(blocks) == 6
    for name, content in blocks:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(content)
    for name in ("a/p1_2.png", "b/p2_1.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        Image.new("L", (6, 5)).save(tmp_path / "data" / name)
    env = os.environ | {"HEATPROOF_CONF": str(tmp_path / "mine")}
    answer = subprocess.run(
        [sys.executable, "-c", USE_EVERYTHING, str(tmp_path / "data")],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert answer.returncode == 0, answer.stderr


def test_readme_names_files_that_exist():
    for text in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / text).read_text()):
            assert (ROOT / link).is_file(), f"{text} links to {link}"


def test_readme_names_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = "".join((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
    named = set(re.findall(r"(?:^    |`|&& )make ([a-z-]+)", texts, re.MULTILINE))
    assert named <= targets
    assert {"install", "run", "ui", "check", "test"} <= named
    assert {"make check", "make test"} <= set((ROOT / ".ci" / "run").read_text().splitlines())


@pytest.mark.parametrize("command", readme_commands())
def test_readme_commands_are_understood(command, tmp_path, monkeypatch):
    overrides = [part for part in shlex.split(command) if part != "..."]
    if {"--help", "show=cell", "show=power"} & set(overrides):
        pytest.skip("tested with the command line")
    for folder in ("scans/benign", "scans/malignant", "PATH"):
        (tmp_path / folder).mkdir(parents=True)
    from heatproof.base import compose
    from heatproof.base.trained import Trained

    (tmp_path / "results" / "latest").mkdir(parents=True)
    Trained("net", {}, {"size": 64}, ("a", "b"), None, "net", None).write(tmp_path / "results" / "latest")
    monkeypatch.chdir(tmp_path)
    jobs = compose.compose([part for part in overrides if part != "-m"], multirun="-m" in overrides)
    assert len(jobs) == (4 if "-m" in overrides else 1)
