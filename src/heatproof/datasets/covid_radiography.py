"""COVID-19 Radiography Database: chest X-rays of four classes with lung masks."""

from heatproof.base.annotations import read_masks
from heatproof.base.folders import (
    class_folders,
    left_out,
    list_images,
    named_folders,
    no_images,
    root_folder,
    subfolders,
)
from heatproof.base.images import decode
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice

CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


@choice(
    annotation="mask",
    needs_root=True,
    official=False,
    study=False,
    grouped=False,
    version=1,
    source="Chowdhury et al. 2020, IEEE Access 8; Rahman et al. 2021, Comput. Biol. Med. 132",
)
def covid_radiography(*, root: str | None, classes: tuple[str, ...] | None) -> Source:
    """Radiographs in `root/<class>/images`, each with the lung mask of its name in `root/<class>/masks` where there is
    one.

    The masks show where lungs are, not where disease is. No patient is known.
    """
    folder = root_folder("covid_radiography", root)
    chosen = [name for name in CLASSES if classes is None or name in classes]
    rows: list[Row] = []
    masks: dict[str, str] = {}
    remarks = ["patients are unknown: images of one patient may lie in several splits"]
    for name, path in zip(chosen, class_folders(folder, chosen), strict=True):
        (images,) = named_folders(path, ("images",), what="folder", hint="It holds images/ and masks/ as published.")
        files, notes = list_images(images)
        if not files:
            raise no_images(images)
        inner = {name.lower(): path / name for name in subfolders(path)}
        known, more = list_images(inner["masks"]) if "masks" in inner else ((), ())
        remarks += [*notes, *more]
        for file in files:
            image = f"{path.name}/{images.name}/{file}"
            if file in known:
                masks[image] = str(inner["masks"] / file)
            rows.append(
                Row(
                    image,
                    str(images / file),
                    CLASSES.index(name),
                    annotation="mask" if file in known else None,
                )
            )
        missing = len(set(files) - set(known))
        if missing:
            remarks.append(f"{path.name}: {missing} image(s) have no lung mask")
        remarks += left_out(sorted(set(known) - set(files)), f"{path.name} has no X-ray of that name", "mask")
    return Source(
        tuple(rows),
        CLASSES,
        read=lambda row: decode(str(row.path)),
        read_mask=lambda row: read_masks([masks[row.image]]) if row.image in masks else None,
        mask_paths=lambda row: (masks[row.image],) if row.image in masks else (),
        remarks=tuple(remarks),
    )
