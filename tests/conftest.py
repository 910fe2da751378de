"""What every test starts from: the shipped choices alone, a store and a conf folder of its own."""

from collections.abc import Iterator

import pytest

from heatproof.base import registry


@pytest.fixture(autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees another's plug-ins, a user's configuration or a user's store."""
    monkeypatch.delenv("HEATPROOF_CONF", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    yield
    registry._plugins.clear()
    registry.choices.cache_clear()
    registry._shipped_file.cache_clear()
