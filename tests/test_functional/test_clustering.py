# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.clustering import contingency


def test_counts_have_a_cell_for_every_id_up_to_the_largest():
    counts = contingency(torch.tensor([0, 2, 2, 0]), torch.tensor([1, 3, 3, 1]))
    expected = torch.zeros(3, 4, dtype=torch.long)
    expected[0, 1] = expected[2, 3] = 2
    assert torch.equal(counts, expected)


@pytest.mark.parametrize(
    'labels, predictions, message',
    [([], [], 'one cluster id'), ([1], [1, 2], 'one cluster id'), ([0, -1], [0, 0], 'negative')],
)
def test_bad_input_is_refused(labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        contingency(torch.tensor(labels).long(), torch.tensor(predictions).long())
