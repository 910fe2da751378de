"""What a run says of itself."""

from heatproof.flow import passes_of


def test_passes_compare_with_the_estimate() -> None:
    """Used and minimum count maps and perturbed images, as the plan's estimate does; repeats are used, not needed."""
    scores = {"used": 100, "requested": 300, "maps": 40, "again": 3, "stored_cells": 1, "new_cells": 2}
    found = passes_of({"maps": 20, "again": 2}, scores)
    assert found == {
        "used": 165,
        "minimum": 160,
        "maps": 60,
        "perturbed": 100,
        "requested": 300,
        "stored_cells": 1,
        "new_cells": 2,
    }
    assert passes_of({}, {"used": 0, "maps": 0})["used"] == 0
