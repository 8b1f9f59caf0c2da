# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.accuracy import top_k_accuracy


@pytest.mark.parametrize('k, expected', [(1, 100 / 3), (2, 200 / 3), (9, 200 / 3)])
def test_accuracy(k, expected):
    ranked = torch.tensor([[2, 0], [1, 2], [0, 1]])
    assert top_k_accuracy(ranked, torch.tensor([2, 0, 1]), k) == pytest.approx(expected)
