"""Files of weights: read without running code from them, matched strictly, hashed by content.

Conventions: a state is a flat mapping name -> tensor. `.safetensors` files are read as such, all others as torch files
with `weights_only=True`.
"""

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from heatproof.base.errors import HeatproofError, fault

# Keys under which training scripts keep the state dict inside a bigger file.
WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_state(path: Path | str) -> dict[str, Tensor]:
    """The state dict in a file, unwrapped from `state_dict`/`model` and from the prefix of data-parallel training.

    Raises: HeatproofError where the file is missing, broken, or holds anything but tensors by name.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*") if p.suffix in (".pth", ".pt", ".safetensors"))
        where = f"no such file in {path.parent}" if path.parent.is_dir() else f"no such folder {path.parent}"
        raise HeatproofError(fault("model.weights", where, got=path.name, choices=near[:10]))
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about files of other programs, which are refused below
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling, zip and safetensors each raise their own kinds
        raise HeatproofError(
            fault(
                "model.weights",
                f"the file cannot be read as weights ({_reason(error)})",
                got=str(path),
                hint="Give a state dict saved by torch.save(net.state_dict(), path), or a .safetensors file.",
            )
        ) from error
    while isinstance(content, Mapping) and (inner := next((k for k in WRAPPERS if k in content), None)):
        content = content[inner]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise HeatproofError(
            fault(
                "model.weights",
                "the file holds no state dict",
                got=str(path),
                hint="Save one by torch.save(net.state_dict(), path).",
            )
        )
    state = {str(name): value for name, value in content.items()}
    while all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _reason(error: Exception) -> str:
    """Why a file was not read, without torch's advice to read it by running what is in it."""
    text = str(error).strip()
    if called := re.search(r"GLOBAL (\S+)", text):
        return f"it holds code beside tensors, {called[1]}, which is not run"
    if "weights_only" in text:
        return "it is no file of tensors, or holds code beside them, which is not run"
    if "zip archive" in text:
        return "it is cut off or damaged"
    return text.splitlines()[0] if text else type(error).__name__


def load_state(
    net: nn.Module, state: Mapping[str, Tensor], heads: tuple[str, ...], *, optional: tuple[str, ...] = ()
) -> list[str]:
    """Weights put into a net; the names of what was left out: the heads, where a size differs, and `optional`.

    `heads`: names of what makes the logits. `optional`: prefixes of parts that the net may lack (auxiliary
    classifiers).
    Raises: HeatproofError for anything else that is missing, superfluous or of another shape.
    """
    wanted = net.state_dict()
    spare = {name for name in state if name not in wanted and name.startswith(optional or ("\0",))}
    given = {name: value for name, value in state.items() if name not in spare}
    left_out = sorted({p for p in optional for name in spare if name.startswith(p)})
    of_heads = tuple(f"{head}." for head in heads)
    in_head = [name for name in wanted if name.startswith(of_heads)]
    if any(name not in given or given[name].shape != wanted[name].shape for name in in_head):
        given = {name: value for name, value in given.items() if not name.startswith(of_heads)}
        left_out += heads
    else:
        in_head = []
    missing = [n for n in wanted if n not in given and n not in in_head and not n.endswith("num_batches_tracked")]
    surplus = [n for n in given if n not in wanted]
    shapes = [n for n in given if n in wanted and given[n].shape != wanted[n].shape]
    faults = [
        fault("model.weights", f"{what}: {_some(names)}", hint=f"{len(names)} of {len(wanted)} tensors.")
        for what, names in (
            ("the file lacks tensors of this net", missing),
            ("the file holds tensors that this net lacks", surplus),
            ("tensors have other shapes than in this net", shapes),
        )
        if names
    ]
    if faults:
        raise HeatproofError(*faults)
    net.load_state_dict(given, strict=False)
    return left_out


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def file_hash(path: Path | str) -> str:
    """sha256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state_hash(state: Mapping[str, Tensor]) -> str:
    """sha256 of a state's names, shapes, types and values."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
