# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import torch

from ibot_mm.functional.patterns import assign_prototypes, best_members, largest_prototypes

# Of three images with two tokens each; prototypes 0, 1 and 2.
VALUES = torch.tensor([[0.9, 0.8], [-0.5, -0.1], [0.7, 0.3]])
PROTOTYPES = torch.tensor([[0, 0], [0, 1], [1, 0]])


def test_largest_logit():
    values, prototypes = assign_prototypes(torch.tensor([[0.1, 0.4, 0.3], [-2.0, -3.0, -1.0]]))
    assert prototypes.tolist() == [1, 2]
    torch.testing.assert_close(values, torch.tensor([0.4, -1.0]))


def test_unused_prototypes_are_left_out():
    assert largest_prototypes(PROTOTYPES, 3).tolist() == [0, 1]
    assert largest_prototypes(PROTOTYPES, 3, 1).tolist() == [0]


def test_one_member_of_each_image_negative_logits_too():
    images, places = best_members(VALUES, PROTOTYPES, 0)
    assert images.tolist() == [0, 2, 1]
    assert places.tolist() == [0, 1, 0]
    assert best_members(VALUES, PROTOTYPES, 1)[0].tolist() == [2, 1]
    assert best_members(VALUES, PROTOTYPES, 0, 2)[0].tolist() == [0, 2]
    assert best_members(VALUES, PROTOTYPES, 2)[0].tolist() == []
