"""The command before work starts: help, lists, plans and faults answer at once and leave nothing behind."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import class_folders, environment, heatproof, user_folder

from heatproof import cli

HEAVY = ("torch", "torchvision", "mlflow", "pandas", "scipy", "sklearn", "matplotlib", "captum", "pyarrow")


def untouched(work: Path) -> bool:
    """Whether the command left its folder and its store as they were."""
    return not list((work / "here").iterdir()) and not (work / "store").exists()


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command in this process, in an empty folder: exit code, what it printed, what it complained of."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HEATPROOF_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("HEATPROOF_CONF", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments)
        out, err = capsys.readouterr()
        assert untouched(tmp_path)
        return code, out, err

    return call


def test_a_fault_is_one_message_without_a_traceback_and_leaves_no_folder(tmp_path: Path) -> None:
    done = heatproof("model=resnet81", "train.epohcs=3", "device=gpu", work=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == "heatproof: 3 faults"
    assert (
        "  model: no such option, got 'resnet81'. Did you mean 'resnet18'? There are: cnn, deit_tiny, dense"
        in done.stderr
    )
    assert "  train.epohcs: no such key, got 'epohcs'. Did you mean 'epochs'?" in done.stderr
    assert "  device: no such device, got 'gpu'" in done.stderr
    assert "Traceback" not in done.stderr
    assert untouched(tmp_path)


def test_faults_of_several_jobs_at_once(tmp_path: Path) -> None:
    done = heatproof("-m", "model=small_cnn,vgg61", "train.epochs=0,1", "eval.split=tset", work=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("eval.split: no such option, got 'tset'. Did you mean 'test'?") == 1
    assert (
        "jobs 0 (model=small_cnn train.epochs=0), 2 (model=vgg61 train.epochs=0): train.epochs: must be" in done.stderr
    )
    assert "jobs 2 (model=vgg61 train.epochs=0), 3 (model=vgg61 train.epochs=1): model: no such option" in done.stderr
    assert untouched(tmp_path)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["show=metrics"], ["stage=plan"], ["-m", "seed=1,2", "stage=plan"], ["train.epohcs=1"]]
)
def test_nothing_heavy_is_imported_before_work_starts(arguments: list[str], tmp_path: Path) -> None:
    code = f"import sys\nfrom heatproof import cli\ncli.main({arguments!r})\nprint('LOADED', sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)  # fmt: skip  # noqa: E501
    loaded = ast.literal_eval(done.stdout.rpartition("LOADED")[2].strip())
    assert "heatproof.stages.plan" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_help_lists_groups_and_options(main) -> None:
    code, out, _ = main("--help")
    assert code == 0
    for part in (
        "dataset    cbis_ddsm, chest_xray, covid_radiography",
        "robustcam6",
        "-m key=a,b",
        "show=datasets|",
    ):
        assert part in out


def test_help_lists_a_users_options(main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATPROOF_CONF", str(user_folder(tmp_path / "conf")))
    _, out, _ = main("-h")
    assert "blobs" in out
    assert "squares" in out


@pytest.mark.parametrize(
    ("show", "parts"),
    [
        ("datasets", ["phantom:", "num_images=1000", "annotation=mask"]),
        ("models", ["small_cnn:", "width=16", "options: densenet121"]),
        ("explainers", ["gradcam:", "needs=[layer, gradient]", "random (control):"]),
        ("views", ["sets of views", "rotate:", "family=rotation", "median:"]),
        ("metrics", ["suites (metrics=[...]): ", "localisation, nine", "faith:", "better=up", "Panboonyuen 2026"]),
        ("store", ["0 entries"]),
        ("config", ["train:", "  epochs: 20", "dataset:", "  split: grouped"]),
    ],
)
def test_lists(show: str, parts: list[str], main) -> None:
    code, out, err = main(f"show={show}")
    assert (code, err) == (0, "")
    for part in parts:
        assert part in out


def test_layers_of_a_model(main) -> None:
    code, out, _ = main("show=layers", "model.stages=3")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("layers of small_cnn on 1 x 64 x 64 px")
    assert [line.split() for line in lines[1:-1]] == [
        ["stage1", "16", "x", "64", "x", "64"],
        ["stage2", "32", "x", "32", "x", "32"],
        ["stage3", "64", "x", "16", "x", "16", "<-", "automatic"],
    ]
    assert "none, no layer of this net has places" in main("show=layers", "model=mlp", "dataset.num_images=60")[1]


def test_layers_of_a_transformer_say_what_stands_beside_the_places(main) -> None:
    code, out, _ = main("show=layers", "model=deit_tiny", "model.name=test_vit", "dataset.num_images=60")
    assert code == 0
    assert "blocks.4" in out
    assert "  blocks.5.norm1  64 x 4 x 4, 1 token beside them   <- automatic" in out.splitlines()


def test_the_plan_of_every_job(main) -> None:
    code, out, _ = main("-m", "seed=1,2", "stage=plan", "dataset.num_images=60")
    assert code == 0
    assert out.count("methods     gradcam") == 2
    assert "job 1: seed=2" in out
    assert "train         12      12          12   = 36" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--foo"], "command line: no such flag, got '--foo'"),
        (["show=metric"], "show: no such list, got 'metric'. Did you mean 'metrics'?"),
        (["foo"], "command line: this cannot be read, got 'foo'"),
        (["tracking.upload=true"], "tracking.upload: no run of an earlier command is under results/"),
        (["dataset=image_folder", "dataset.root=/no/such folder, [x]"], "got '/no/such folder, [x]'"),
    ],
)
def test_other_faults(arguments: list[str], message: str, main) -> None:
    code, out, err = main(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_flags_stand_anywhere(main) -> None:
    code, out, _ = main("seed=1,2", "-m", "stage=plan", "dataset.num_images=60")
    assert code == 0
    assert "job 1: seed=2" in out


def test_a_folder_without_images_of_a_class(main, tmp_path: Path) -> None:
    root = class_folders(tmp_path / "data", "benign", "malignant")
    (root / "empty").mkdir()
    code, _, err = main("dataset=image_folder", f"dataset.root={root}")
    assert code == 2
    assert "empty" in err


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    command = f"{sys.executable} -m heatproof show=metrics | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path / "here", env={**os.environ, **environment(tmp_path)}, capture_output=True, text=True)  # fmt: skip  # noqa: E501
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
