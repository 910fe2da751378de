"""Versions of what a result depends on, of what is installed alone."""

import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

from heatproof.base import versions as module
from heatproof.base.versions import versions


def test_versions_are_those_of_the_packages_metadata() -> None:
    found = versions()
    assert found["torch"] == version("torch")
    assert found["python"].split(".")[:2] == [str(number) for number in sys.version_info[:2]]


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGES", ("torch", "no-such-package"))
    with pytest.raises(PackageNotFoundError):
        version("no-such-package")
    assert set(versions()) == {"python", "system", "torch"}
