"""A flat folder of images without labels."""

from difflib import get_close_matches
from pathlib import Path

from heatproof.base.dicom import default_group
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.folders import images_below, root_folder
from heatproof.base.images import decode
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice


@choice(
    annotation=None, needs_root=True, official=False, study=False, grouped=False, version=1, source="your own images"
)
def images(*, root: str | None) -> Source:
    """The image `root`, or all images in the folder `root` and the folders in it, without labels: for a net that is
    trained already, which explains what it predicts (train=none, target=predicted). Every image is in the test split;
    DICOM files are grouped by their patient."""
    if root is not None:
        file = Path(root).expanduser()
        if file.is_file():
            return Source(
                (Row(file.name, str(file), None, default_group(file)),), (), read=lambda row: decode(str(row.path))
            )
        if not file.exists():
            beside = [path.name for path in file.parent.glob("*")] if file.parent.is_dir() else []
            near = [str(file.with_name(name)) for name in get_close_matches(file.name, beside)]
            raise HeatproofError(fault("images", "no such file or folder", got=str(file), choices=near))
    folder = root_folder("images", root)
    names, remarks = images_below(folder)
    if not names:
        raise HeatproofError(fault("dataset.root", "no images inside", got=str(folder)))
    rows = tuple(Row(name, str(folder / name), None, default_group(folder / name)) for name in names)
    return Source(rows, (), read=lambda row: decode(str(row.path)), remarks=remarks)
