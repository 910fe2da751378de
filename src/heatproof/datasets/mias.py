"""mini-MIAS: mammograms whose lesions are circles, listed in Info.txt."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from heatproof.base.annotations import Circle, circle_mask
from heatproof.base.errors import HeatproofError, fault
from heatproof.base.folders import left_out, list_images, root_folder
from heatproof.base.images import decode
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice

SEVERITIES = ("normal", "benign", "malignant")
KINDS = ("NORM", "CALC", "CIRC", "SPIC", "MISC", "ARCH", "ASYM")
ORIGINAL_SIDE = 1024
# Reference, tissue, class, severity, then x, y and radius, or a note in their place.
LINE = re.compile(r"(mdb\d{3})\s+([FGD])\s+([A-Z]{4})(?:\s+([BM]))?(?:\s+([\d.]+)\s+([\d.]+)\s+([\d.]+))?", re.ASCII)
SIDE = re.compile(r"size of ALL the images is (\d+) pixels x \1 pixels")


@choice(
    annotation="mask",
    needs_root=True,
    official=False,
    study=False,
    grouped=True,
    version=1,
    source="Suckling et al. 1994, Excerpta Medica 1069, 375-378",
)
def mias(*, root: str | None, label: Literal["severity", "class"], units: int | None) -> Source:
    """Mammograms with the circles of Info.txt as masks; the two breasts of a patient are one group.

    `label`: "severity" (normal, benign, malignant; the worst finding of an image counts) or "class" (NORM, CALC, ...;
    an image with findings of two classes is left out). `units`: side in pixels of the images that the coordinates of
    Info.txt are meant for, None = as the file itself says, else 1024. They are scaled to the image at hand, and y
    counts from the bottom. A finding without a circle (spread calcifications, mdb059) has no mask.
    """
    folder = root_folder("mias", root)
    findings, side = read_info(folder)
    side = units or side
    files, remarks = list_images(folder, aside=("info.txt", "licence.txt"))
    by_stem = {Path(file).stem.lower(): file for file in files}
    classes = SEVERITIES if label == "severity" else KINDS
    unlisted = [file for stem, file in by_stem.items() if stem not in findings]
    rows: list[Row] = []
    torn = []
    for stem, file in by_stem.items():
        if stem in findings:
            names = {finding.severity if label == "severity" else finding.kind for finding in findings[stem]}
            if label == "class" and len(names) > 1:
                torn.append(file)
                continue
            rows.append(
                Row(
                    file,
                    str(folder / file),
                    max(classes.index(name) for name in names),
                    group=f"pair {(int(stem[3:]) + 1) // 2:03d}",
                    annotation="mask" if any(finding.circle for finding in findings[stem]) else None,
                )
            )
    if not rows:
        raise HeatproofError(fault(str(folder), "no image that Info.txt lists, such as mdb001.pgm", got=files[:3]))

    def circles(row: Row) -> list[Circle]:
        return _circles(findings[Path(row.image).stem.lower()], side)

    absent = len(set(findings) - set(by_stem))
    spread = [row.image for row in rows if row.annotation is None and row.label]
    present = tuple(name for name in classes if any(classes[row.label or 0] == name for row in rows))
    return Source(
        tuple(
            Row(r.image, r.path, present.index(classes[r.label or 0]), r.group, annotation=r.annotation) for r in rows
        ),
        present,
        read=lambda row: decode(str(row.path)),
        # At the resolution of its own units: loading brings a mask to its image, and refuses one that is not square.
        read_mask=lambda row: circle_mask(circles(row), side, side) if row.annotation else None,
        mask_shapes=circles,
        remarks=(
            *remarks,
            *left_out(unlisted, "Info.txt does not list them"),
            *left_out(torn, "their findings are of several classes"),
            *([f"{absent} image(s) of Info.txt are not in {folder}"] if absent else []),
            *([f"{len(spread)} image(s) have a finding without a circle: {', '.join(spread)}"] if spread else []),
        ),
    )


@dataclass(frozen=True)
class Finding:
    """A row of Info.txt; the circle is (x, y from the bottom, radius) in its units, or None."""

    kind: str
    severity: str
    circle: tuple[float, float, float] | None


def info_file(folder: Path) -> Path:
    """The list of findings in a folder, whatever the case of its name."""
    for path in sorted(folder.iterdir()):
        if path.name.lower() == "info.txt":
            return path
    raise HeatproofError(fault(str(folder), "no Info.txt, which says what the images show"))


def read_info(folder: Path) -> tuple[dict[str, list[Finding]], int]:
    """Findings by image name without ending, and the side in pixels that their coordinates are meant for."""
    path = info_file(folder)
    text = path.read_text(encoding="latin-1")
    findings: dict[str, list[Finding]] = defaultdict(list)
    for number, line in enumerate(text.splitlines(), 1):
        if not re.match(r"mdb\d", line):
            continue
        match = LINE.match(line)
        if match is None or match[3] not in KINDS or (match[3] != "NORM" and match[4] is None):
            raise HeatproofError(
                fault(f"{path}, line {number}", "no row such as mdb001 G CIRC B 535 425 197", got=line)
            )
        severity = {None: "normal", "B": "benign", "M": "malignant"}[match[4]]
        circle = (float(match[5]), float(match[6]), float(match[7])) if match[5] else None
        findings[match[1]].append(Finding(match[3], severity, circle))
    stated = SIDE.search(text)
    return findings, int(stated[1]) if stated else ORIGINAL_SIDE


def _circles(findings: Sequence[Finding], side: int) -> list[Circle]:
    """Circles with y from the top, in units of images of that side."""
    return [(x, side - y, radius) for x, y, radius in (finding.circle for finding in findings if finding.circle)]
