"""The commands in the guides are understood, and their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from heatproof.base import compose

GUIDES = sorted((Path(__file__).parents[1] / "docs" / "guides").glob("*.md"))
COMMANDS = [line for guide in GUIDES for line in re.findall(r"^ +heatproof (.+)$", guide.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    overrides = shlex.split(command)
    assert compose.compose([part for part in overrides if part != "-m"], multirun="-m" in overrides)


def test_links_lead_somewhere() -> None:
    assert GUIDES
    for guide in GUIDES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", guide.read_text()):
            assert (guide.parent / link).is_file(), f"{guide.name} links to {link}"
