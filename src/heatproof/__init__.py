"""heatproof: can this heat map be trusted?

`import heatproof as hp` costs nothing: torch is imported by the first function that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heatproof.api import (
        explain,
        list_datasets,
        list_explainers,
        list_metrics,
        list_models,
        list_views,
        load_model,
        measure,
        run,
    )

__version__ = "0.1.0"
__all__ = [
    "explain",
    "list_datasets",
    "list_explainers",
    "list_metrics",
    "list_models",
    "list_views",
    "load_model",
    "measure",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("heatproof.api"), name)
    raise AttributeError(f"module 'heatproof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
