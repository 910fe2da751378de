import copy
import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from heatproof.base.errors import HeatproofError
from heatproof.base.weights import file_hash, load_state, read_state, state_hash


def net(classes=3):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )


@pytest.mark.parametrize("wrap", ["pth", "safetensors", "state_dict", "parallel"])
def test_a_state_comes_back_from_every_kind_of_file(tmp_path, wrap):
    state = net().state_dict()
    path = tmp_path / ("weights.safetensors" if wrap == "safetensors" else "weights.pth")
    if wrap == "safetensors":
        save_file(state, path)
    elif wrap == "state_dict":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif wrap == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    found = read_state(path)
    assert set(found) == set(state)
    assert all(value.equal(state[name]) for name, value in found.items())
    assert state_hash(found) == state_hash(state)


class Evil:
    def __reduce__(self):
        return (print, ("code from a weight file ran",))


def test_files_that_are_no_weights_are_refused(tmp_path, capsys):
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    torch.save(Evil(), tmp_path / "evil.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    with pytest.raises(HeatproofError, match=r"no such file.*Did you mean 'weights.pth'"):
        read_state(tmp_path / "weight.pth")
    for name, message in {
        "weights.pth": r"cannot be read as weights \(it is no file of tensors",
        "evil.pth": r"cannot be read as weights \(it holds code beside tensors, print, which is not run\)",
        "empty.pth": "no state dict",
        "cut.safetensors": "cannot be read",
    }.items():
        with pytest.raises(HeatproofError, match=message):
            read_state(tmp_path / name)
    assert "ran" not in capsys.readouterr().out


class Planted:
    """Unpickled by a careless reader, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.safetensors", "weights.bin"])
def test_code_in_a_file_is_not_run(tmp_path, name):
    planted = tmp_path / "planted"
    torch.save({**net().state_dict(), "evil": Planted(planted)}, tmp_path / name)
    with pytest.raises(HeatproofError, match=f"cannot be read as weights.*{name}"):
        read_state(tmp_path / name)
    # The same in the format of old, which is a bare pickle.
    torch.save({"evil": Planted(planted)}, tmp_path / name, _use_new_zipfile_serialization=False)
    with pytest.raises(HeatproofError, match="cannot be read as weights"):
        read_state(tmp_path / name)
    assert not planted.exists()
    if not name.endswith(".safetensors"):
        torch.load(tmp_path / name, weights_only=False)
        assert planted.exists(), "the plant works where a reader is careless"


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_off_anywhere_is_refused(tmp_path, kind, share):
    path = tmp_path / f"weights.{kind}"
    state = net().state_dict()
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(HeatproofError, match="cannot be read as weights"):
        read_state(path)


def test_a_folder_is_no_file_of_weights(tmp_path):
    (tmp_path / "weights.pth").mkdir()
    with pytest.raises(HeatproofError, match="no such file"):
        read_state(tmp_path / "weights.pth")


def test_a_head_of_another_size_is_left_out():
    source, target = net(5), net(3)
    before = copy.deepcopy(target.state_dict())
    assert load_state(target, source.state_dict(), ("4",)) == ["4"]
    assert target[0].weight.equal(source[0].weight)
    assert target[4].weight.equal(before["4.weight"])


def test_a_head_that_fits_is_taken():
    source, target = net(3), net(3)
    assert load_state(target, source.state_dict(), ("4",)) == []
    assert state_hash(target.state_dict()) == state_hash(source.state_dict())


def test_parts_that_may_be_left_out_are_named():
    state = {**net().state_dict(), "aux1.conv.weight": torch.zeros(1)}
    assert load_state(net(), state, ("4",), optional=("aux1.", "aux2.")) == ["aux1."]


def test_everything_that_does_not_fit_is_refused_at_once():
    state = net().state_dict()
    del state["0.bias"]
    state["1.weight"] = torch.zeros(7)
    state["further.weight"] = torch.zeros(1)
    target = net()
    before = state_hash(target.state_dict())
    with pytest.raises(HeatproofError) as error:
        load_state(target, state, ("4",))
    assert [name for name in ("0.bias", "further.weight", "1.weight") if name in str(error.value)] == [
        "0.bias",
        "further.weight",
        "1.weight",
    ]
    assert state_hash(target.state_dict()) == before


def test_old_files_without_batch_counters_are_taken():
    state = {name: value for name, value in net().state_dict().items() if "num_batches" not in name}
    assert load_state(net(), state, ("4",)) == []


def test_hashes_follow_content(tmp_path):
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b") != file_hash(tmp_path / "c")
    one, half = {"w": torch.ones(2)}, {"w": torch.ones(2).half()}
    assert (
        len({state_hash(one), state_hash(half), state_hash({"v": torch.ones(2)}), state_hash({"w": torch.ones(2, 1)})})
        == 4
    )
