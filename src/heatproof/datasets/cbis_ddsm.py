"""CBIS-DDSM: mammograms with masses and calcifications, joined from its case descriptions and DICOM list."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from heatproof.base.annotations import read_masks
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.folders import left_out, named_folders, root_folder
from heatproof.base.images import decode
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice

CLASSES = ("benign", "malignant")
PATHOLOGY = {"BENIGN": 0, "BENIGN_WITHOUT_CALLBACK": 0, "MALIGNANT": 1}
SETS = tuple((kind, split) for kind in ("mass", "calc") for split in ("train", "test"))
# What `SeriesDescription` says of a picture.
FULL, CROP, MASK = "full mammogram images", "cropped images", "roi mask images"
COLUMNS = ("patient_id", "pathology", "image file path", "cropped image file path", "ROI mask file path")
# A mask stored as JPEG: nearly all of it lies near black or white.
NEAR = 32
TWO_VALUED = 0.98


@choice(
    annotation="mask",
    needs_root=True,
    official=True,
    study=False,
    grouped=True,
    version=1,
    source="Lee et al. 2017, Scientific Data 4:170177",
)
def cbis_ddsm(
    *,
    root: str | None,
    view: Literal["full", "crop"],
    lesions: Literal["all", "mass", "calc"],
    mixed: Literal["malignant", "leave_out"],
) -> Source:
    """Mammograms labelled benign or malignant, with the regions of their lesions as masks.

    `view`: "full" = one row per mammogram, the masks of its lesions merged; "crop" = one row per lesion, the crop
    around it, without a mask. `lesions`: which case descriptions are read. `mixed`: a mammogram with benign and
    malignant lesions is malignant, or is left out. BENIGN_WITHOUT_CALLBACK is benign. The patient is the group; the
    shipped train and test are the official split, and a remark says how many patients lie in both.

    Which picture of a series is the crop and which the mask is what `SeriesDescription` in `dicom_info.csv` says; where
    it says nothing, the picture itself tells: a mask is black and white. Lesions whose pictures are not there are left
    out and named.
    """
    folder = root_folder("cbis_ddsm", root)
    tables, pictures_root = named_folders(
        folder,
        ("csv", "jpeg"),
        what="folder",
        hint="The copy on Kaggle holds csv/ and jpeg/; see conf/dataset/cbis_ddsm.yaml.",
    )
    findings = [
        lesion for kind, split in SETS if lesions in ("all", kind) for lesion in read_lesions(tables, kind, split)
    ]
    series = _series(tables / "dicom_info.csv", pictures_root)
    across = straddling(findings)
    if view == "crop":
        rows, masks, remarks = _crops(findings, series, pictures_root)
    else:
        rows, masks, remarks = _mammograms(findings, series, pictures_root, mixed)
    if not rows:
        raise HeatproofError(
            fault(str(pictures_root), "no picture that the case descriptions name", hint=" ".join(remarks))
        )
    return Source(
        tuple(rows),
        CLASSES,
        read=lambda row: decode(str(row.path)),
        read_mask=lambda row: read_masks(masks[row.image]) if row.annotation else None,
        mask_paths=lambda row: masks.get(row.image, ()),
        remarks=(*remarks, *across),
    )


@dataclass(frozen=True)
class Lesion:
    """A row of a case description: series that hold its mammogram, and those that hold its crop and its mask,
    which some rows swap."""

    patient: str
    label: int
    split: str
    name: str
    full: tuple[str, ...]
    region: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """A file of a series and what its description says, or "" ."""

    path: str
    description: str


def read_lesions(folder: Path, kind: str, split: str) -> list[Lesion]:
    path = folder / f"{kind}_case_description_{split}_set.csv"
    found = []
    faults = Faults()
    for line, row in enumerate(read_csv(path, COLUMNS), 2):
        label = PATHOLOGY.get(row["pathology"].strip().upper())
        if label is None:
            faults.add(f"{path}, row {line}", "no such pathology", got=row["pathology"], choices=PATHOLOGY)
            continue
        full, crop, mask = (_uids(row[column]) for column in COLUMNS[2:])
        name = f"{path.name} row {line}"
        found.append(Lesion(row["patient_id"].strip(), label, split, name, full, tuple(dict.fromkeys(crop + mask))))
    faults.raise_any()
    return found


def read_csv(path: Path, columns: Sequence[str]) -> Iterable[dict[str, str]]:
    """Rows of a csv file with line feeds inside quotes, or a HeatproofError for a file or column that is missing."""
    if not path.is_file():
        raise HeatproofError(
            fault(str(path.parent), f"{path.name} is missing", choices=sorted(p.name for p in path.parent.iterdir()))
        )
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        lacking = [name for name in columns if name not in (table.fieldnames or ())]
        if lacking:
            raise HeatproofError(fault(str(path), f"no column {lacking[0]!r}", choices=table.fieldnames or ()))
        yield from table


def _uids(text: str) -> tuple[str, ...]:
    """Series and study of a path `case/study/series/000000.dcm`; some paths end in a line feed.

    >>> _uids("Mass-Test_P_1_LEFT_CC/1.2/3.4/000000.dcm\\n")
    ('3.4', '1.2')
    """
    parts = PurePosixPath(text.strip()).parts
    return tuple(reversed(parts[1:-1]))


def _series(path: Path, pictures: Path) -> dict[str, list[Picture]]:
    """Pictures of `dicom_info.csv` by series, in the order of their names."""
    found: dict[str, list[Picture]] = defaultdict(list)
    for row in read_csv(path, ("image_path", "SeriesDescription")):
        place = PurePosixPath(row["image_path"].strip())
        found[place.parent.name].append(
            Picture(str(pictures / place.parent.name / place.name), row["SeriesDescription"].strip().lower())
        )
    return {uid: sorted(own, key=lambda picture: picture.path) for uid, own in found.items()}


def _find(wanted: str, uids: Sequence[str], series: Mapping[str, Sequence[Picture]]) -> str | None:
    """The first picture of a kind in some series: as described, else by its content; None where none is on disk."""
    own = [picture for uid in uids for picture in series.get(uid, ()) if Path(picture.path).is_file()]
    described = [picture.path for picture in own if picture.description == wanted]
    if described:
        return described[0]
    silent = [picture.path for picture in own if not picture.description]
    return next((path for path in silent if wanted == FULL or is_mask(path) == (wanted == MASK)), None)


def is_mask(path: str) -> bool:
    """Whether a picture is black and white: at least 98 % of its pixels lie within 32 grey values of 0 or 255, and
    both occur. Seen at a reduced size, which a JPEG file gives quickly."""
    from PIL import Image

    with Image.open(path) as image:
        image.draft("L", (256, 256))
        pixels = np.asarray(image.convert("L"))
    dark, bright = pixels <= NEAR, pixels >= 255 - NEAR
    return bool((dark | bright).mean() >= TWO_VALUED and bright.any() and dark.any())


def _mammograms(
    findings: Sequence[Lesion], series: Mapping[str, Sequence[Picture]], pictures: Path, mixed: str
) -> tuple[list[Row], dict[str, tuple[str, ...]], list[str]]:
    """One row per mammogram, its masks by image, and remarks."""
    by_image: dict[str, list[Lesion]] = defaultdict(list)
    absent = []
    for lesion in findings:
        path = _find(FULL, lesion.full, series)
        if path is None:
            absent.append(lesion.name)
        else:
            by_image[path].append(lesion)
    rows = []
    masks: dict[str, tuple[str, ...]] = {}
    torn, bare = [], []
    for path, own in sorted(by_image.items()):
        image = _id(path, pictures)
        labels = {lesion.label for lesion in own}
        if len(labels) > 1 and mixed == "leave_out":
            torn.append(image)
            continue
        regions = [_find(MASK, lesion.region, series) for lesion in own]
        known = tuple(dict.fromkeys(region for region in regions if region is not None))
        complete = None not in regions
        if complete:
            masks[image] = known
        else:
            bare.append(image)
        annotation = "mask" if complete else None
        rows.append(Row(image, path, max(labels), own[0].patient, own[0].split, annotation=annotation))
    return (
        rows,
        masks,
        [
            *left_out(absent, "their mammogram is not there", "lesion"),
            *left_out(torn, "they show benign and malignant lesions"),
            *([f"{len(bare)} mammogram(s) lack the mask of a lesion, so they count as not annotated"] if bare else []),
        ],
    )


def _crops(
    findings: Sequence[Lesion], series: Mapping[str, Sequence[Picture]], pictures: Path
) -> tuple[list[Row], dict[str, tuple[str, ...]], list[str]]:
    """One row per lesion; no masks, because nothing says where in the mammogram a crop lies."""
    rows = {}
    absent = []
    for lesion in findings:
        path = _find(CROP, lesion.region, series)
        if path is None:
            absent.append(lesion.name)
        else:
            rows[path] = Row(_id(path, pictures), path, lesion.label, lesion.patient, lesion.split)
    return [rows[path] for path in sorted(rows)], {}, [*left_out(absent, "their crop is not there", "lesion")]


def _id(path: str, pictures: Path) -> str:
    return Path(path).relative_to(pictures.parent).as_posix()


def straddling(findings: Sequence[Lesion]) -> list[str]:
    sides: dict[str, set[str]] = defaultdict(set)
    for lesion in findings:
        sides[lesion.patient].add(lesion.split)
    both = sum(len(splits) > 1 for splits in sides.values())
    if not both:
        return []
    return [
        f"{both} of {len(sides)} patients lie in the shipped train and test: dataset.split=official tears them apart, "
        "dataset.split=grouped keeps them together"
    ]
