"""A data set's rows under the shared settings: the function called, the classes chosen and checked."""

from dataclasses import replace

from heatproof.base.errors import HeatproofError, fault
from heatproof.base.records import Source
from heatproof.base.registry import Bound
from heatproof.base.settings import LoadSettings


def source_of(dataset: Bound, settings: LoadSettings) -> Source:
    """The data set's source with `settings.classes` applied: labels count in their order, other classes are left out.

    Nothing is decoded. Raises a HeatproofError for a missing folder, an unknown or repeated class, or a class without
    images.
    """
    supplied = {
        "size": settings.size,
        "channels": settings.channels,
        "seed": settings.seed,
        "classes": settings.classes,
    }
    source: Source = dataset(**{name: supplied[name] for name in dataset.choice.supplied})
    return with_classes(source, settings.classes)


def with_classes(source: Source, classes: tuple[str, ...] | None) -> Source:
    """The source reduced to some classes in a given order (None = all, in the source's order)."""
    wanted = tuple(source.classes if classes is None else classes)
    faults = [
        fault("dataset.classes", "no such class", got=c, choices=source.classes)
        for c in wanted
        if c not in source.classes
    ]
    faults += [
        fault("dataset.classes", "named twice", got=c) for c in sorted({c for c in wanted if wanted.count(c) > 1})
    ]
    if source.classes and len(wanted) < 2:
        faults.append(
            fault(
                "dataset.classes",
                "a classifier needs at least two classes",
                got=list(wanted),
                choices=source.classes,
                hint="Images of one class are explained without labels, by a net that is trained already: "
                "dataset=images (or dataset.label=none of imagenet_boxes) and train=none.",
            )
        )
    if not faults:
        seen = {source.classes[row.label] for row in source.rows if row.label is not None}
        faults += [fault("dataset", "a class without images", got=c) for c in wanted if c not in seen]
    if not faults and not source.rows:
        faults.append(fault("dataset", "no images"))
    if faults:
        raise HeatproofError(*faults)
    if wanted == source.classes:
        return source
    number = {source.classes.index(name): position for position, name in enumerate(wanted)}
    rows = tuple(
        replace(row, label=None if row.label is None else number[row.label])
        for row in source.rows
        if row.label is None or row.label in number
    )
    # What an outside reader gets is the row it made: only the label changed, which no reader looks at but generated
    # data, whose index stands in `image`.
    return replace(source, rows=rows, classes=wanted)
