"""The commands in the guides are understood, and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from heatproof.base import compose

GUIDES = sorted((Path(__file__).parents[1] / "docs" / "guides").glob("*.md"))
COMMANDS = [line for guide in GUIDES for line in re.findall(r"^ +heatproof (.+)$", guide.read_text(), re.MULTILINE)]

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [*GUIDES, *sorted((DOCS / "studies").glob("*.md")), DOCS / "from_scripts.md"]
OF_STUDIES = [
    line
    for page in sorted((DOCS / "studies").glob("*.md"))
    for line in re.findall(r"^ +heatproof (.+)$", page.read_text(), re.MULTILINE)
    if "[" not in line
]
# Overrides in the tables of scripts and their equivalents.
EQUIVALENTS = [
    cell
    for cell in re.findall(r"`([^`]+)`", (DOCS / "from_scripts.md").read_text())
    if re.match(r"[a-z'+]+[\w.@]*=", cell) and not re.search(r"[.]{3}|NAME|[({]", cell)
]


@pytest.mark.slow
@pytest.mark.parametrize("command", [*OF_STUDIES, *EQUIVALENTS])
def test_equivalents_of_scripts_are_understood(command: str, tmp_path: Path) -> None:
    overrides = [part.replace("FOLDER", str(tmp_path)).replace("FILE", "net.pth") for part in shlex.split(command)]
    needed = {
        "explainer.occlusion": "explainer=[occlusion]", "explainer.lime": "explainer=[lime,shap]",
        "model.head": "model=resnet50", "model.normalise": "model=resnet50",
    }  # fmt: skip
    said = " ".join(overrides)
    more = [add for key, add in needed.items() if key in said and add.partition("=")[0] + "=" not in said]
    assert compose.compose([*more, *overrides])


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    overrides = shlex.split(command)
    assert compose.compose([part for part in overrides if part != "-m"], multirun="-m" in overrides)


def test_links_lead_somewhere() -> None:
    assert GUIDES
    for guide in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", guide.read_text()):
            assert (guide.parent / link).is_file(), f"{guide.name} links to {link}"
