"""Votes and mean ranks: closed forms, and as methods of a run that are rerun as a whole."""

import pytest
import stocked
import torch

from heatproof.base.methods import explain_batch
from heatproof.base.names import MethodName
from heatproof.base.records import Method
from heatproof.base.registry import bind
from heatproof.explainers.votes import high_confidence, mean_rank, vote_counts, votes

MAPS = torch.tensor([[[[0.0, 1.0, 2.0, 4.0]]], [[[9.0, 9.0, 9.0, 8.0]]], [[[-3.0, 5.0, 1.0, 1.0]]]])


def test_votes_are_counted_on_scaled_maps():
    assert vote_counts(MAPS, 0.5).tolist() == [[[1.0, 2.0, 3.0, 2.0]]]
    torch.testing.assert_close(votes(MAPS, threshold=0.5), torch.tensor([[[1.0, 2.0, 3.0, 2.0]]]) / 3)
    assert high_confidence(vote_counts(MAPS, 0.5), 2).tolist() == [[[False, True, True, True]]]


def test_a_constant_map_votes_nowhere_and_a_broken_one_is_flagged():
    flat = torch.stack([MAPS[0], torch.ones_like(MAPS[0])])
    assert votes(flat, threshold=0.5).tolist() == [[[0.0, 0.0, 0.5, 0.5]]]
    broken = MAPS.clone()
    broken[1, 0, 0, 2] = torch.nan
    assert not torch.isfinite(votes(broken, threshold=0.5)).all()
    assert not torch.isfinite(mean_rank(broken)).all()


def test_mean_rank_does_not_see_scales():
    ranks = mean_rank(MAPS)
    # Ranks: 1 2 3 4, 3 3 3 1, 1 4 2.5 2.5; (rank - 1/2) / 4, mean over three.
    torch.testing.assert_close(ranks, (torch.tensor([[[5.0, 9.0, 8.5, 7.5]]]) / 3 - 0.5) / 4)
    torch.testing.assert_close(mean_rank(MAPS * torch.tensor([1e3, 1.0, 7.0])[:, None, None, None]), ranks)


@pytest.mark.parametrize("role", ["base", "noise1"])
def test_a_vote_is_made_of_the_maps_of_its_methods_in_every_rerun(role):
    model, images = stocked.classifier(), torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    parts = tuple(
        Method(MethodName(name), bind("explainer", name, settings))
        for name, settings in (("gradcam", {}), ("rise", {"samples": 20}), ("occlusion", {"patch": 4, "stride": 4}))
    )
    vote = Method(MethodName("votes"), bind("explainer", "votes"), of=parts)
    ask = {"ids": ["a", "b", "c"], "seed": 1, "role": role}
    targets = torch.tensor([0, 1, 2])
    # One part is a row of the run, the others are made for the vote alone.
    made = explain_batch(model, images, targets, [vote, parts[0]], **ask)
    assert set(made) == {"votes", "gradcam"}
    alone = explain_batch(model, images, targets, parts, **ask)
    wanted = votes(torch.stack([alone[name].maps for name in ("gradcam", "rise", "occlusion")]), threshold=0.5)
    torch.testing.assert_close(made["votes"].maps, wanted)
