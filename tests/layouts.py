"""Each published data set in miniature, in the layout in which it comes, with the overrides that plan a run on it."""

from collections.abc import Callable
from pathlib import Path

from shelves import mask, picture

PER_CLASS = 10


def build(option: str, root: Path) -> list[str]:
    """Make the layout of a data set in `root`; returns the overrides that a plan needs beside `dataset=`."""
    if option == "phantom":
        return []
    root.mkdir(parents=True)
    return [f"dataset.root={root}", *LAYOUTS[option](root)]


def untrained(root: Path) -> list[str]:
    """Overrides for data without labels: a net that is there already."""
    weights = root.with_name("weights.pth")
    weights.touch()
    return ["train=none", "model=resnet18", f"model.weights={weights}"]


def image_folder(root: Path) -> list[str]:
    for name in ("a b", "c,d"):
        for number in range(PER_CLASS):
            picture(root / name / f"{number} ü.png")
    return []


def images(root: Path) -> list[str]:
    for number in range(3):
        picture(root / "ward 7" / f"{number}.png")
    return untrained(root)


def chest_xray(root: Path) -> list[str]:
    for split in ("train", "test"):
        for number in range(PER_CLASS):
            picture(root / split / "NORMAL" / f"IM-{number:04d}-0001.jpeg")
            picture(root / split / "PNEUMONIA" / f"person{number}_bacteria_{number}.jpeg")
    return []


def iq_othnccd(root: Path) -> list[str]:
    for word in ("Normal", "Bengin", "Malignant"):
        for number in range(1, PER_CLASS + 1):
            picture(root / f"{word} cases" / f"{word} case ({number}).png")
    return []


def covid_radiography(root: Path) -> list[str]:
    for name, images in {"COVID": 10, "Lung_Opacity": 11, "Normal": 14, "Viral Pneumonia": 12}.items():
        for number in range(1, images + 1):
            picture(root / name / "images" / f"{name}-{number}.png", (13, 13))
            mask(root / name / "masks" / f"{name}-{number}.png", size=(11, 11))
        (root / f"{name}.metadata.xlsx").touch()
    return []


INFO = """
1st column: MIAS database reference number.
2) The size of ALL the images is 1024 pixels x 1024 pixels

mdb001 G CIRC B 512 768 256
mdb002 G CIRC B 522 280 69
mdb003 D NORM 
mdb004 D NORM 
mdb005 F CIRC M 477 133 30
mdb005 F CIRC B 500 168 26
mdb006 F NORM 
mdb059 F CIRC B
mdb216 D CALC M *NOTE 3*
mdb023 G CIRC M 538 681 29
mdb144 F MISC B 233 994 29
mdb144 F CIRC M 313 540 27
mdb999 G NORM 
"""


def mias(root: Path) -> list[str]:
    (root / "Info.txt").write_text(INFO)
    for stem in {line.split()[0] for line in INFO.splitlines() if line.startswith("mdb")} - {"mdb999"}:
        picture(root / f"{stem}.pgm", (64, 64))
    (root / "Licence.txt").touch()
    return []


LAYOUTS: dict[str, Callable[[Path], list[str]]] = {
    "chest_xray": chest_xray,
    "covid_radiography": covid_radiography,
    "image_folder": image_folder,
    "images": images,
    "iq_othnccd": iq_othnccd,
    "mias": mias,
}
