import pytest
import torch

from heatproof.base.places import Layout, layout_of

IMAGES = torch.zeros(2, 3, 64, 64)
WIDE = torch.zeros(2, 3, 32, 64)


def layout(shape, images=IMAGES, grids=()):
    return layout_of(torch.zeros(shape), images, set(grids))


@pytest.mark.parametrize(
    ("shape", "images", "grids", "expected"),
    [
        ((2, 8, 4, 4), IMAGES, (), Layout("channels first", 4, 4)),
        ((2, 4, 4, 8), IMAGES, (), Layout("channels last", 4, 4)),
        ((2, 8, 7, 7), IMAGES, (), Layout("channels first", 7, 7)),
        ((2, 7, 7, 8), IMAGES, (), Layout("channels last", 7, 7)),
        ((2, 4, 4, 4), IMAGES, (), Layout("channels first", 4, 4)),
        ((2, 16, 4, 8), WIDE, (), Layout("channels first", 4, 8)),
        ((2, 4, 8, 24), WIDE, (), Layout("channels last", 4, 8)),
        ((2, 9, 8), IMAGES, [(2, 2)], Layout("tokens", 2, 2, 5)),
        ((2, 9, 8), IMAGES, [(16, 16), (3, 3), (2, 2)], Layout("tokens", 3, 3, 0)),
        ((2, 9, 8), IMAGES, (), Layout("tokens", 3, 3, 0)),
        ((2, 33, 8), WIDE, [(4, 8)], Layout("tokens", 4, 8, 1)),
        ((2, 34, 8), WIDE, (), Layout("tokens", 4, 8, 2)),
        ((2, 8, 1, 1), IMAGES, (), None),
        ((2, 1, 8), IMAGES, [(2, 2)], None),
        ((2, 300, 8), IMAGES, [(4, 4)], None),
        ((8, 16, 8), IMAGES, [(4, 4)], None),
        ((2, 8), IMAGES, (), None),
    ],
)
def test_places_are_found_by_shape_and_grid(shape, images, grids, expected):
    assert layout(shape, images, grids) == expected


def test_what_is_no_tensor_has_no_places():
    assert layout_of((torch.zeros(2, 8, 4, 4),), IMAGES, set()) is None


def test_cells_and_prefix_tokens_are_taken_apart():
    cells = torch.arange(2 * 3 * 2 * 4.0).view(2, 3, 2, 4)
    assert Layout("channels last", 2, 4).cells(cells.permute(0, 2, 3, 1)).equal(cells)
    tokens = torch.cat([torch.full((2, 5, 3), -1.0), cells.flatten(2).transpose(1, 2)], 1)
    row = Layout("tokens", 2, 4, 5)
    assert row.cells(tokens).equal(cells)
    assert row.prefix_tokens(tokens).eq(-1).all()
    assert [one.channels(t) for one, t in ((row, tokens), (Layout("channels first", 2, 4), cells))] == [3, 3]
