"""Each published data set in miniature, in the layout in which it comes, with the overrides that plan a run on it."""

import shutil
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


def utkface(root: Path) -> list[str]:
    """Image files, three of them with names that the published set has, too."""
    for number in range(2 * PER_CLASS):
        picture(
            root / "part1" / f"{20 + number}_{number % 2}_{number % 5}_201701{number:011d}.jpg.chip.jpg", mode="RGB"
        )
    for name in ("61_1_20170109142408075.jpg.chip.jpg", "53__0_20170116184028385.jpg", "44_1_4_x.jpg"):
        picture(root / "part1" / name)
    return []


def utkface_parquet(root: Path, row_group: int = 7) -> list[bytes]:
    """The form of the hub; returns the encoded pictures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 2 * PER_CLASS
    pictures = [picture(root / "made" / f"{number}.png", mode="RGB").read_bytes() for number in range(count)]
    shutil.rmtree(root / "made")
    (root / "data").mkdir()
    columns = {
        "image": [{"bytes": data, "path": None} for data in pictures],
        "age": [5 * number for number in range(count)],
        "gender": [number % 2 for number in range(count)],
        "race": [["White", "Black", "Asian", "Indian", "Others"][number % 5] for number in range(count)],
    }
    pq.write_table(pa.table(columns), root / "data" / "train-00000-of-00001.parquet", row_group_size=row_group)
    return pictures


def voc(path: Path, boxes: dict[str, list[tuple[int, int, int, int]]], size: tuple[int, int]) -> None:
    """An XML file of Pascal VOC with boxes by name."""
    things = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, own in boxes.items()
        for a, b, c, d in own
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path.write_text(f"<annotation><filename>{path.stem}</filename>{stated}{things}</annotation>")


def imagenet_boxes(root: Path) -> list[str]:
    for number in range(2 * PER_CLASS):
        wnid = ("n02085620", "n02086240")[number % 2]
        picture(root / "images" / wnid / f"{wnid}_{number}.JPEG", (24, 20), mode="RGB")
        voc(root / "annots" / wnid / f"{wnid}_{number}.xml", {wnid: [(1, 1, 6, 4), (11, 9, 24, 20)]}, (24, 20))
    return []


CASES = "patient_id,{density},left or right breast,image view,abnormality id,abnormality type,assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path"  # noqa: E501
PATHOLOGIES = ("BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK")


def cbis_ddsm(root: Path) -> list[str]:
    """Two views of each patient; patient 0 has two lesions in one view, crop and mask are in either order, some
    pictures have no description, and patient 1 lies in the training and the test set."""
    dicom = ["file_path,image_path,PatientID,SeriesDescription,SeriesInstanceUID"]
    tables = {f"{kind}_case_description_{split}_set": [] for kind in ("mass", "calc") for split in ("train", "test")}
    (root / "csv").mkdir(parents=True)
    for number in range(12):
        kind, split = ("mass", "calc")[number % 2], "test" if number in (4, 11) else "train"
        patient = f"P_{1 if number == 11 else number:05d}"
        for view in ("CC", "MLO"):
            full = f"1.3.{number}.{len(view)}"
            picture(root / "jpeg" / full / "1-1.jpg", (64, 96))
            dicom.append(f"a.dcm,CBIS-DDSM/jpeg/{full}/1-1.jpg,{patient},full mammogram images,{full}")
            for lesion in (2, 1) if number == 0 and view == "CC" else (1,):
                region = f"{full}.{lesion}"
                crop, roi = ("1-1.jpg", "2-2.jpg") if (number + lesion) % 2 else ("2-2.jpg", "1-1.jpg")
                picture(root / "jpeg" / region / crop, (16, 14))
                mask(root / "jpeg" / region / roi, (10 * lesion, 20, 10 * lesion + 8, 30), (64, 96))
                said = ("cropped images", "ROI mask images") if number != 3 else ("", "")
                for file, text in zip((crop, roi), said, strict=True):
                    dicom.append(f"b.dcm,CBIS-DDSM/jpeg/{region}/{file},{patient}_{lesion},{text},{region}")
                pathology = PATHOLOGIES[(number + lesion) % 3]
                case = f"{kind.title()}-Set_{patient}_LEFT_{view}"
                tables[f"{kind}_case_description_{split}_set"].append(
                    f"{patient},3,LEFT,{view},{lesion},{kind},4,{pathology},3,{case}/9.9/{full}/000000.dcm,"
                    f'{case}_{lesion}/9.9.1/{region}/000000.dcm,"{case}_{lesion}/9.9.1/{region}/000001.dcm\n"'
                )
    for name, lines in tables.items():
        head = CASES.format(density="breast_density" if "mass" in name else "breast density")
        (root / "csv" / f"{name}.csv").write_text("\n".join([head, *lines, ""]))
    (root / "csv" / "dicom_info.csv").write_text("\n".join([*dicom, ""]))
    return []


def table(root: Path) -> list[str]:
    lines = ["path,label,group"]
    for number in range(2 * PER_CLASS):
        name = picture(root / "scans ä" / f"{number}, left.png").name
        lines.append(f'"scans ä/{name}",{("ill", "well")[number % 2]},p{number // 2}')
    (root / "scans.csv").write_text("\n".join([*lines, ""]))
    return ["dataset.file=scans.csv"]


LAYOUTS: dict[str, Callable[[Path], list[str]]] = {
    "cbis_ddsm": cbis_ddsm,
    "chest_xray": chest_xray,
    "covid_radiography": covid_radiography,
    "image_folder": image_folder,
    "imagenet_boxes": imagenet_boxes,
    "images": images,
    "iq_othnccd": iq_othnccd,
    "mias": mias,
    "table": table,
    "utkface": utkface,
}
