"""Fetching data: archives that lead out are refused as a whole, counts are checked, errors are one line."""

import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import layouts
import pytest

from heatproof.base.errors import HeatproofError

SCRIPT = Path(__file__).parents[1] / "scripts" / "fetch_data.py"


@pytest.fixture(scope="module")
def fetch_data():
    spec = importlib.util.spec_from_file_location("fetch_data", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fetch_data"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fetch_data"]


def zipped(path, members, link=None):
    with zipfile.ZipFile(path, "w") as packed:
        for name, data in members.items():
            packed.writestr(name, data)
        if link:
            member = zipfile.ZipInfo("link")
            member.external_attr = 0o120777 << 16
            packed.writestr(member, link)
    return path


def tarred(path, members, **special):
    with tarfile.open(path, "w:gz") as packed:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
        for name, (kind, target) in special.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            packed.addfile(member)
    return path


def inside(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


OUTSIDE = [
    "../out.txt",
    "a/../../out.txt",
    "/tmp/out.txt",
    "C:/out.txt",
    "C:out.txt",
    "C:\\out.txt",
    "..\\out.txt",
    "\\\\host\\out",
]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_archive_that_leads_out_is_refused_as_a_whole(fetch_data, tmp_path, pack, name):
    archive = pack(tmp_path / "archive", {"good.txt": b"x", name: b"x"})
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    with pytest.raises(HeatproofError, match="a member would leave the folder; nothing was unpacked"):
        fetch_data.unpack(archive, folder)
    assert inside(tmp_path) == ["archive"]


def test_links_and_devices_are_refused(fetch_data, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    archives = [
        zipped(tmp_path / "a.zip", {"x": b"x"}, link="/etc"),
        tarred(tmp_path / "b.tgz", {"x": b"x"}, link=(tarfile.SYMTYPE, "/etc")),
        tarred(tmp_path / "c.tgz", {"x": b"x"}, link=(tarfile.LNKTYPE, "../../etc/passwd")),
        tarred(tmp_path / "d.tgz", {"x": b"x"}, pipe=(tarfile.FIFOTYPE, "")),
    ]
    for archive in archives:
        with pytest.raises(HeatproofError, match=r"holds a link.*nothing was unpacked"):
            fetch_data.unpack(archive, folder)
    assert inside(folder) == []


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_an_honest_archive_is_unpacked(fetch_data, tmp_path, pack):
    archive = pack(tmp_path / "archive", {"a b/ü..txt": b"1", "a b/c/d.txt": b"2", "e..f": b"3"})
    folder = tmp_path / "folder"
    (folder / "a b").mkdir(parents=True)
    (folder / "a b" / "old").touch()
    (folder / "kept").touch()
    fetch_data.unpack(archive, folder)
    assert inside(folder) == ["a b/c/d.txt", "a b/ü..txt", "e..f", "kept"]


def test_broken_archives(fetch_data, tmp_path):
    whole = zipped(tmp_path / "a.zip", {f"{i}": os.urandom(1000) for i in range(9)}).read_bytes()
    (tmp_path / "wrong.zip").write_bytes(whole[:200] + b"!" + whole[201:])
    (tmp_path / "cut.zip").write_bytes(whole[:-500])
    cut = tarred(tmp_path / "a.tgz", {f"{i}": os.urandom(1000) for i in range(9)}).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(cut[: len(cut) // 2])
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, message in {
        "wrong.zip": "broken archive",
        "cut.zip": "neither a zip nor a tar file",
        "cut.tgz": "broken archive",
        "none.zip": "no such file",
    }.items():
        with pytest.raises(HeatproofError, match=message):
            fetch_data.unpack(tmp_path / name, folder)
    assert inside(folder) == []


def test_a_library_that_unpacks_by_itself_is_watched_and_let_go(fetch_data, tmp_path):
    archive = tarred(tmp_path / "a.tgz", {"../out": b"x"})
    before = tarfile.TarFile.extractall, zipfile.ZipFile.extractall
    with pytest.raises(HeatproofError), fetch_data.checked_unpacking(), tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "folder")
    assert (tarfile.TarFile.extractall, zipfile.ZipFile.extractall) == before


def test_an_archive_of_a_data_set_is_unpacked_counted_and_refused_where_short(
    fetch_data, tmp_path, monkeypatch, capsys
):
    data = tmp_path / "data"
    layouts.iq_othnccd(data)
    members = {f"wrapped/twice/{name}": (data / name).read_bytes() for name in inside(data)}
    archive = zipped(tmp_path / "archive.zip", members)
    folder = tmp_path / "here"
    assert fetch_data.main(["iq_othnccd", str(folder), "--archive", str(archive)]) == 1
    shown = capsys.readouterr()
    assert "10 Normal" in shown.out
    assert "not as published: Normal: 10 images, 416 were published; Benign: 10 images, 120 were" in shown.err
    assert len(shown.err.splitlines()) == 1
    origin = fetch_data.ORIGINS["iq_othnccd"]
    exact = fetch_data.Origin(origin.handle, origin.marks, {"Normal": 10, "Benign": 10, "Malignant": 10})
    monkeypatch.setitem(fetch_data.ORIGINS, "iq_othnccd", exact)
    assert fetch_data.main(["iq_othnccd", str(folder)]) == 0
    assert f"heatproof dataset=iq_othnccd dataset.root={folder / 'wrapped' / 'twice'}" in capsys.readouterr().out
    archive.unlink()
    assert fetch_data.main(["iq_othnccd", str(folder)]) == 0
    assert "already" in capsys.readouterr().out
    (folder / "wrapped" / "twice" / "Normal cases" / "Normal case (1).png").unlink()
    assert fetch_data.main(["iq_othnccd", str(folder)]) == 1
    assert "Normal: 9 images, 10 were published" in capsys.readouterr().err


FAKE = """
import os
from pathlib import Path
def dataset_download(handle):
    assert handle == "kmader/mias-mammography"
    if os.environ.get("OFFLINE"):
        raise ConnectionError("Max retries exceeded\\nwith url: /api/v1/...")
    place = Path(os.environ["KAGGLEHUB_CACHE"]) / "datasets" / handle / "versions" / "3"
    (place / "all-mias").mkdir(parents=True)
    import sys
    sys.path.insert(0, os.environ["TESTS"])
    import layouts
    layouts.mias(place / "all-mias")
    return str(place)
"""


def run(tmp_path, *arguments, **more):
    """The script in a process of its own, with `kagglehub` only where a test has made one."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TESTS": str(Path(__file__).parent), **more}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "site"), str(SCRIPT.parents[1] / "src")])
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)


def test_kaggle_by_way_of_kagglehub(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "kagglehub.py").write_text("raise ModuleNotFoundError('kagglehub')")
    missing = run(tmp_path, "mias", "here")
    assert missing.returncode == 1
    assert missing.stderr.startswith(
        "kagglehub: not installed. pip install 'heatproof[fetch]', or get the archive from"
    )
    (tmp_path / "site" / "kagglehub.py").write_text(FAKE)
    offline = run(tmp_path, "mias", "here", OFFLINE="1")
    assert offline.returncode == 1
    assert offline.stderr.count("\n") == 1
    assert "mias-mammography: cannot be fetched: Max retries exceeded. Run the command again" in offline.stderr
    short = run(tmp_path, "mias", "here")
    assert short.returncode == 1
    assert "not as published: normal: 3 images, 207 were published" in short.stderr
    assert (tmp_path / "here" / "all-mias" / "mdb001.pgm").is_file()
    assert not (tmp_path / "here" / ".download").exists()


def test_the_hub_offline_is_one_line(tmp_path):
    pytest.importorskip("huggingface_hub")
    offline = run(tmp_path, "utkface", "here")
    assert offline.returncode == 1
    assert offline.stderr.startswith("https://huggingface.co/datasets/rixmape/utkface: cannot be fetched: ")
    assert offline.stderr.count("\n") == 1


def test_names_are_those_of_data_sets(tmp_path):
    wrong = run(tmp_path, "covid", "here")
    assert wrong.returncode == 2
    assert "invalid choice: 'covid'" in wrong.stderr
