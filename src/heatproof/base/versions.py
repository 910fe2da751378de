"""Versions of what a result depends on, read from package metadata, so that nothing is imported."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("heatproof", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "grad-cam", "lime", "shap")


def versions() -> dict[str, str]:
    """Package -> version of what is installed, with Python's own and the system's name."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
