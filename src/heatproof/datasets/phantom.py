"""Procedural CT-like axial chest slices whose class-deciding object is known to the pixel.

A slice is composed in coordinates x (right) and y (down) in [-1, 1], so that it is the same at any size. Independent
random streams draw the anatomy, the nodule, the noise and the traps: the same slice without its nodule, or with its
tag elsewhere, differs in that object alone.
"""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Row, Source
from heatproof.base.registry import choice

CLASSES = ("no_nodule", "smooth", "spiculated")
ANATOMY, NODULE, NOISE, TAG, ELECTRODE = range(5)  # the random streams of a slice
AIR, LUNG, FAT, VESSEL, MUSCLE, BONE, METAL = 0.02, 0.14, 0.34, 0.40, 0.50, 0.82, 1.0  # grey values
CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))  # where tags lie (x, y): top left, clockwise; a class's own is its index

Plane = NDArray[np.float32]
Point = tuple[float, float]


@choice(
    annotation="mask",
    needs_root=False,
    official=False,
    study=False,
    grouped=False,
    version=1,
    source="procedural; no patient data",
)
def phantom(
    *,
    root: str | None,
    size: int,
    channels: int,
    seed: int,
    num_images: int,
    contrast: float,
    noise: float,
    shortcut: float,
    distractor: bool,
) -> Source:
    """Slices of three balanced classes: no_nodule, smooth, spiculated; the nodule's mask is the annotation.

    `contrast`: grey value of the nodule above the lung, (0, 0.86]. `noise`: standard deviation of the pixel noise, in
    grey values. `shortcut`: probability [0, 1] that a tag appears in the corner that belongs to the class.
    `distractor`: a bright electrode on the skin of every slice, whatever its class.
    """
    faults = []
    if num_images < len(CLASSES):
        faults.append(fault("dataset.num_images", f"at least {len(CLASSES)}, one per class", got=num_images))
    if size < 16:
        faults.append(fault("dataset.size", "a phantom needs at least 16 pixels", got=size))
    if not 0 < contrast <= METAL - LUNG:
        faults.append(fault("dataset.contrast", f"must lie in (0, {METAL - LUNG:g}]", got=contrast))
    if noise < 0:
        faults.append(fault("dataset.noise", "must not be negative", got=noise))
    if not 0 <= shortcut <= 1:
        faults.append(fault("dataset.shortcut", "a probability in [0, 1]", got=shortcut))
    if faults:
        raise HeatproofError(*faults)
    look = Look(size, seed, contrast, noise, shortcut, distractor)
    rows = tuple(
        Row(f"{index:06d}", None, label_of(index), annotation="mask" if label_of(index) else None)
        for index in range(num_images)
    )
    return Source(
        rows,
        CLASSES,
        read=lambda row: render(int(row.image), look),
        read_mask=lambda row: nodule_mask(int(row.image), look) if row.annotation else None,
        identity={"phantom": asdict(look), "version": 1},
    )


@dataclass(frozen=True)
class Look:
    """What decides a slice besides its index; the fields are the settings of `phantom`."""

    size: int
    seed: int
    contrast: float
    noise: float
    shortcut: float
    distractor: bool


def label_of(index: int) -> int:
    """Class of slice `index`: the classes take turns."""
    return index % len(CLASSES)


def render(index: int, look: Look, *, nodule: bool = True, tag_corner: int | str | None = "planted") -> np.ndarray:
    """Slice `index` as uint8 (size, size).

    `nodule=False`: the same slice, noise included, without its nodule. `tag_corner`: "planted" = as `look.shortcut`
    has it, None = no tag, 0..3 = a tag in that corner whether or not one was planted.
    """
    grid = _grid(look.size)
    anatomy = _Anatomy.draw(_stream(look, index, ANATOMY))
    image = anatomy.paint(grid)
    if nodule and label_of(index):
        _blend(image, _nodule(grid, anatomy, index, look), LUNG + look.contrast)
    if look.distractor:
        _blend(image, _electrode(grid, anatomy, _stream(look, index, ELECTRODE)), METAL)
    corner = _planted_corner(index, look) if tag_corner == "planted" else tag_corner
    if corner is not None:
        _blend(image, _tag(grid, CORNERS[int(corner)]), METAL)
    image += _noise(look, _stream(look, index, NOISE))
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def nodule_mask(index: int, look: Look) -> np.ndarray:
    """Pixels of the nodule of slice `index` (spicules included), bool (size, size); all False in class no_nodule."""
    if not label_of(index):
        return np.zeros((look.size, look.size), bool)
    anatomy = _Anatomy.draw(_stream(look, index, ANATOMY))
    cover = _nodule(_grid(look.size), anatomy, index, look)
    # A quarter of a pixel counts: spicules are thinner than one.
    return cover >= min(0.25, float(cover.max()))


def lung_mask(index: int, look: Look) -> np.ndarray:
    """Pixels of both lungs of slice `index`, bool (size, size)."""
    return _Anatomy.draw(_stream(look, index, ANATOMY)).lungs(_grid(look.size)) > 0.5


@dataclass(frozen=True)
class _Grid:
    x: Plane  # (1, size)
    y: Plane  # (size, 1)
    pixel: float  # side of a pixel

    def cover(self, distance: Plane) -> Plane:
        """Part of each pixel inside a shape, from the signed distance to its edge."""
        return np.clip(0.5 - distance / np.float32(self.pixel), 0, 1)

    def ellipse(self, centre: Point, axes: Point) -> Plane:
        x, y = (self.x - centre[0]) / axes[0], (self.y - centre[1]) / axes[1]
        return self.cover((np.sqrt(x * x + y * y) - 1) * min(axes))


def _grid(size: int) -> _Grid:
    centres = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    return _Grid(centres[None, :], centres[:, None], 2 / size)


@dataclass(frozen=True)
class _Anatomy:
    """Shapes of one slice: ellipses as (centre, semi-axes), vessels as (start, end, radius)."""

    body: tuple[Point, Point]
    lung_shapes: tuple[tuple[Point, Point], ...]
    heart: tuple[Point, Point]
    spine: tuple[Point, Point]
    ribs: tuple[Point, ...]
    vessels: tuple[tuple[Point, Point, float], ...]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "_Anatomy":
        u = rng.random(16).tolist()
        body = ((0.0, 0.02), (0.90 + 0.05 * u[0], 0.78 + 0.06 * u[1]))
        lungs = tuple(
            (
                (side * (0.52 + 0.03 * u[2 + k]), -0.03 + 0.06 * u[4 + k]),
                (0.25 + 0.03 * u[6 + k], 0.54 + 0.06 * u[8 + k]),
            )
            for k, side in enumerate((-1, 1))
        )
        heart = ((0.10 + 0.06 * u[10], -0.10 + 0.10 * u[11]), (0.20 + 0.05 * u[12], 0.22 + 0.05 * u[13]))
        spine = ((0.0, 0.50 + 0.03 * u[14]), (0.12 + 0.02 * u[15], 0.11))
        angles = np.linspace(0.1, 2 * np.pi + 0.1, 12, endpoint=False) + rng.uniform(-0.12, 0.12, 12)
        ribs = tuple(
            (0.88 * body[1][0] * float(np.cos(a)), body[0][1] + 0.88 * body[1][1] * float(np.sin(a))) for a in angles
        )
        vessels = tuple(segment for side in (-1, 1) for segment in _tree(rng, side))
        return cls(body, lungs, heart, spine, ribs, vessels)

    def lungs(self, grid: _Grid) -> Plane:
        both = np.maximum(*(grid.ellipse(*shape) for shape in self.lung_shapes))
        return both * (1 - grid.ellipse(*self.heart))

    def paint(self, grid: _Grid) -> Plane:
        size = grid.x.shape[1]
        image = np.full((size, size), AIR, np.float32)
        centre, (a, b) = self.body
        _blend(image, grid.ellipse(centre, (a, b)), FAT)
        _blend(image, grid.ellipse(centre, (a - 0.06, b - 0.06)), MUSCLE)
        for rib in self.ribs:
            _blend(image, grid.ellipse(rib, (0.05, 0.035)), BONE)
        lungs = self.lungs(grid)
        _blend(image, lungs, LUNG)
        vessels = np.zeros((size, size), np.float32)
        for start, end, radius in self.vessels:
            _tube(vessels, grid, start, end, radius, radius)
        _blend(image, vessels * lungs, VESSEL)
        _blend(image, grid.ellipse(*self.spine), BONE)
        _blend(image, grid.ellipse((self.spine[0][0], self.spine[0][1] + 0.13), (0.05, 0.04)), MUSCLE)
        return image

    def contains(self, x: np.ndarray, y: np.ndarray, margin: float) -> np.ndarray:
        """Which points lie in a lung, at least `margin` from its edge and from the heart."""

        def within(shape: tuple[Point, Point], grow: float) -> np.ndarray:
            (cx, cy), (a, b) = shape
            return ((x - cx) / (a + grow)) ** 2 + ((y - cy) / (b + grow)) ** 2 <= 1

        first, second = self.lung_shapes
        return (within(first, -margin) | within(second, -margin)) & ~within(self.heart, margin)


def _tree(rng: np.random.Generator, side: int) -> list[tuple[Point, Point, float]]:
    """Vessels of one lung: three stems from the hilum, each branching twice in two."""
    tips = [((side * 0.28, 0.0), a + rng.uniform(-0.25, 0.25)) for a in (-0.9, 0.0, 0.9)]
    segments = []
    for radius, length in ((0.022, 0.20), (0.015, 0.17), (0.010, 0.14)):
        grown = []
        for (x, y), angle in tips:
            reach = length * rng.uniform(0.8, 1.2)
            end = (x + side * reach * float(np.cos(angle)), y + reach * float(np.sin(angle)))
            segments.append(((x, y), end, radius))
            grown += [(end, angle + turn * rng.uniform(0.25, 0.7)) for turn in (-1, 1)]
        tips = grown
    return segments


def _nodule(grid: _Grid, anatomy: _Anatomy, index: int, look: Look) -> Plane:
    """Cover of the nodule: a disk in class smooth, a disk with tapering spikes in class spiculated."""
    rng = _stream(look, index, NODULE)
    radius = float(rng.uniform(0.085, 0.12))
    # Uniform over the area of the lungs, by rejection; the first inside is kept.
    x, y = rng.uniform(-1, 1, (2, 512))
    inside = np.flatnonzero(anatomy.contains(x, y, radius + 0.02))
    centre = (float(x[inside[0]]), float(y[inside[0]]))
    cover = np.array(grid.ellipse(centre, (radius, radius)))
    if CLASSES[label_of(index)] == "spiculated":
        count = int(rng.integers(7, 10))
        angles = (np.arange(count) + rng.uniform(-0.25, 0.25, count) + rng.random()) * (2 * np.pi / count)
        for angle, reach in zip(angles, rng.uniform(1.8, 2.4, count) * radius, strict=True):
            tip = (centre[0] + reach * float(np.cos(angle)), centre[1] + reach * float(np.sin(angle)))
            _tube(cover, grid, centre, tip, 0.04, 0.008)
    return cover


def _electrode(grid: _Grid, anatomy: _Anatomy, rng: np.random.Generator) -> Plane:
    """Cover of a disk on the skin over the breastbone, outside the lungs."""
    (cx, cy), (a, b) = anatomy.body
    angle = rng.uniform(1.4, 1.6) * np.pi
    return grid.ellipse((cx + (a + 0.02) * float(np.cos(angle)), cy + (b + 0.02) * float(np.sin(angle))), (0.06, 0.06))


def _planted_corner(index: int, look: Look) -> int | None:
    planted = _stream(look, index, TAG).random() < look.shortcut
    return label_of(index) if planted else None


def _tag(grid: _Grid, corner: Point) -> Plane:
    """Cover of a bracket that opens to the centre: its orientation tells the corner, as a letter would."""
    x, y = grid.x * corner[0], grid.y * corner[1]  # the corner now lies at (1, 1)

    def bar(x0: float, x1: float, y0: float, y1: float) -> Plane:
        return grid.cover(np.maximum(x0 - x, x - x1)) * grid.cover(np.maximum(y0 - y, y - y1))

    return np.maximum(bar(0.74, 0.95, 0.88, 0.95), bar(0.88, 0.95, 0.74, 0.95))


def _noise(look: Look, rng: np.random.Generator) -> Plane:
    """Pixel noise and a texture of a twelfth of the width, half as strong."""
    white = rng.standard_normal((look.size, look.size), dtype=np.float32)
    knots = rng.standard_normal((13, 13), dtype=np.float32)
    where = np.linspace(0, 12, look.size, dtype=np.float32)
    rise = np.maximum(0, 1 - np.abs(where[:, None] - np.arange(13, dtype=np.float32)))
    return np.float32(look.noise) * (white + 0.5 * (rise @ knots @ rise.T))


def _blend(image: Plane, cover: Plane, value: float) -> None:
    image += cover * (np.float32(value) - image)


def _tube(canvas: Plane, grid: _Grid, start: Point, end: Point, radius: float, end_radius: float) -> None:
    """Raise `canvas` to the cover of a tapering tube, inside the tube's box alone."""
    pad, size = radius + grid.pixel, canvas.shape[0]
    x0, x1, y0, y1 = (
        min(max(int((edge + 1) / grid.pixel), 0), size)
        for edge in (
            min(start[0], end[0]) - pad,
            max(start[0], end[0]) + pad + grid.pixel,
            min(start[1], end[1]) - pad,
            max(start[1], end[1]) + pad + grid.pixel,
        )
    )
    if x0 >= x1 or y0 >= y1:
        return
    x, y = grid.x[:, x0:x1] - start[0], grid.y[y0:y1] - start[1]
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
    distance = np.hypot(x - along * dx, y - along * dy)
    window = canvas[y0:y1, x0:x1]
    # Tubes thinner than a pixel keep their area: their cover is scaled, not their edge.
    width = radius + along * (end_radius - radius)
    thin = np.minimum(1, width / (0.5 * grid.pixel))
    np.maximum(window, thin * grid.cover(distance - np.maximum(width, 0.5 * grid.pixel)), out=window)


def _stream(look: Look, index: int, what: int) -> np.random.Generator:
    return np.random.default_rng([look.seed, index, what])
