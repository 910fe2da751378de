"""Photographs with boxes in the XML of Pascal VOC and ImageNet."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from heatproof.base.annotations import Box, box_mask
from heatproof.base.errors import Faults, HeatproofError, fault
from heatproof.base.folders import images_below, inner_folder, left_out, root_folder
from heatproof.base.images import decode
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice


@choice(
    annotation="box",
    needs_root=True,
    official=False,
    study=False,
    grouped=False,
    version=1,
    source="Russakovsky et al. 2015, IJCV 115; Everingham et al. 2010, IJCV 88",
)
def imagenet_boxes(
    *,
    root: str | None,
    label: Literal["box", "folder", "none"],
    images: str,
    boxes: str,
) -> Source:
    """Images in `root/<images>` with the XML of the same name in `root/<boxes>`; an image without one has no boxes.

    `label`: "box" = the name in its boxes (an image with boxes of several names is left out, one without boxes too),
    "folder" = the folder that the image lies in, "none" = no labels, for a net that is trained already (train=none).
    Boxes of other names than the label's do not count under "box"; corners are pixels counted from 1, both included.
    """
    folder = root_folder("imagenet_boxes", root)
    image_root = inner_folder(folder, images, "dataset.images")
    box_root = inner_folder(folder, boxes, "dataset.boxes")
    files, remarks = images_below(image_root)
    if not files:
        raise HeatproofError(fault(str(image_root), "no images inside"))
    faults = Faults()
    drawn: dict[str, Drawing] = {}
    for file in files:
        path = box_root / PurePosixPath(file).with_suffix(".xml")
        if path.is_file():
            with faults.gathered():
                drawn[file] = read_voc(path)
    faults.raise_any()
    if not drawn:
        raise HeatproofError(
            fault(
                str(box_root), "no XML with the name of an image", got=f"{PurePosixPath(files[0]).with_suffix('.xml')}"
            )
        )
    names: dict[str, str | None] = {}
    torn: list[str] = []
    bare: list[str] = []
    for file in files:
        own = drawn[file].names if file in drawn else ()
        if label == "folder":
            names[file] = PurePosixPath(file).parent.name
        elif label == "none" or len(own) == 1:
            names[file] = own[0] if label == "box" else None
        else:
            (torn if own else bare).append(file)
    flat = [file for file, name in names.items() if name == ""]
    if flat:
        raise HeatproofError(
            fault("dataset.label", f"{image_root} has no class folders: {flat[0]} lies in it", got=label,
                  choices=("box", "none"))
        )  # fmt: skip
    classes = tuple(sorted({name for name in names.values() if name is not None}))
    return Source(
        tuple(
            Row(
                file,
                str(image_root / file),
                None if name is None else classes.index(name),
                annotation="box" if file in drawn and drawn[file].boxes else None,
            )
            for file, name in names.items()
        ),
        classes,
        read=lambda row: decode(str(row.path)),
        read_mask=lambda row: _mask(drawn[row.image], row) if row.annotation else None,
        mask_shapes=lambda row: drawn[row.image].plain(),
        remarks=(
            *remarks,
            *left_out(torn, "their boxes have several names"),
            *left_out(bare, "they have no box that names a class"),
            *([f"{len(names.keys() - drawn.keys())} image(s) have no boxes"] if names.keys() - drawn.keys() else []),
        ),
    )


@dataclass(frozen=True)
class Drawing:
    """An XML file: boxes as edges (left, top, right, bottom) in pixels, their names, and the size that the file states
    for the image, or None."""

    boxes: tuple[Box, ...]
    names: tuple[str, ...]
    height: int | None
    width: int | None

    def plain(self) -> list[object]:
        return [self.boxes, self.height, self.width]


def read_voc(path: Path) -> Drawing:
    """The boxes of an XML file of Pascal VOC; a HeatproofError names the file that is none."""
    try:
        tree = ET.parse(path).getroot()
        boxes = []
        for thing in tree.iter("object"):
            x0, y0, x1, y1 = (float(thing.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax"))
            if x1 < x0 or y1 < y0:
                raise ValueError(f"a box from {x0:g}, {y0:g} to {x1:g}, {y1:g}")
            boxes.append((x0 - 1, y0 - 1, x1, y1))
        names = tuple(sorted({(thing.findtext("name") or "").strip() for thing in tree.iter("object")}))
        height, width = (int(tree.findtext(f"size/{key}") or 0) or None for key in ("height", "width"))
    except (ET.ParseError, ValueError) as error:
        raise HeatproofError(fault(str(path), f"no boxes as in Pascal VOC ({error})")) from error
    return Drawing(tuple(boxes), names, height, width)


def _mask(drawing: Drawing, row: Row) -> np.ndarray:
    """At the size that the file states, which is brought to the image's and must have its aspect."""
    height, width = drawing.height, drawing.width
    if height is None or width is None:
        height, width = decode(str(row.path)).shape[:2]
    return box_mask(drawing.boxes, height, width)
