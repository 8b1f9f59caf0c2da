# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Calibration, groups of classes, backgrounds, errors of corruptions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ibot_mm.functional.robustness import (
    ALEXNET_ERRORS,
    imagenet9_groups,
    is_vulnerable,
    mean_corruption_error,
    mean_error,
    paste,
    predict_groups,
    predict_within,
    response_rate_accuracy,
    rms_calibration_error,
)

RECORDING = np.load(Path(__file__).parents[1] / 'data/evaluation/robustness.npz')


def test_classes_outside_do_not_count():
    logits = torch.tensor([[9.0, 1.0, 0.0, 2.0], [0.0, 3.0, 9.0, 1.0]])
    predictions, confidence = predict_within(logits, [1, 3])
    assert predictions.tolist() == [1, 0]
    torch.testing.assert_close(confidence, torch.tensor([1.0, 2.0]).sigmoid())


@pytest.mark.parametrize('as_published, expected', [(False, (0.04 + 0.16) / 2), (True, 0.04 / 2)])
def test_the_most_confident_count_unless_as_published(as_published, expected):
    confidence = torch.tensor([0.2, 0.9, 0.2, 0.9])  # 0.2 from 0, and 0.4 from 0.5
    correct = torch.tensor([False, True, False, False])
    found = rms_calibration_error(confidence, correct, 2, as_published)
    assert found == pytest.approx(expected**0.5)


def test_the_last_bin_takes_the_rest():
    confidence = torch.linspace(0, 1, 7).double()
    correct = torch.zeros(7, dtype=torch.bool)
    means = confidence[:3].mean(), confidence[3:].mean()
    expected = (3 / 7 * means[0] ** 2 + 4 / 7 * means[1] ** 2) ** 0.5
    assert rms_calibration_error(confidence, correct, 3) == pytest.approx(float(expected))
    assert rms_calibration_error(confidence, correct, 100) == pytest.approx(0.5)
    with pytest.raises(ValueError, match='got 0 samples in bins of 100'):
        rms_calibration_error(confidence[:0], correct[:0])


def test_area_under_accuracy_over_response_rate():
    confidence = torch.tensor([0.1, 0.9, 0.5])
    correct = torch.tensor([True, True, False])
    assert response_rate_accuracy(confidence, correct) == pytest.approx((1 + 1 / 2 + 2 / 3) / 3)


def test_groups_of_imagenet9_are_the_recorded_ones():
    assert np.array_equal(imagenet9_groups().numpy(), RECORDING['imagenet9_of_imagenet'])


def test_a_class_without_group_is_wrong():
    groups = torch.tensor([1, 0, -1])
    assert predict_groups(torch.eye(3), groups).tolist() == [1, 0, -1]


def test_foregrounds_are_pasted_by_their_mask():
    foreground, background = torch.full((3, 4, 4), 7), torch.zeros(2, 3, 4, 4).long()
    mask = torch.zeros(4, 4).long()
    mask[1, 2] = 1
    pasted = paste(foreground, mask, background)
    assert pasted.shape == (2, 3, 4, 4) and pasted.sum() == 2 * 3 * 7
    assert (pasted[:, :, 1, 2] == 7).all()
    with pytest.raises(ValueError, match=r'masks of \(3, 4\) .* do not fit'):
        paste(foreground, mask[1:], background)


def test_one_background_is_enough():
    def predict(images):
        return (images.flatten(1).sum(dim=1) > 100).long()

    foreground, mask = torch.ones(3, 4, 4), torch.zeros(4, 4)
    mask[0] = 1
    dark, bright = torch.zeros(5, 3, 4, 4), torch.full((5, 3, 4, 4), 9.0)
    assert not is_vulnerable(predict, foreground, mask, 0, [dark, dark])
    assert is_vulnerable(predict, foreground, mask, 0, [dark, torch.cat([dark, bright])])
    assert is_vulnerable(predict, foreground, mask, 1, [dark])


def test_both_means_of_corruption_errors():
    errors = {name: [error] * 5 for name, error in ALEXNET_ERRORS.items()}
    assert mean_corruption_error(errors) == pytest.approx(1)
    assert len(errors) == 15 and mean_error(errors) == pytest.approx(11.834896 / 15)
    halved = errors | dict(snow=[e / 2 for e in errors['snow']], spatter=[0.0] * 5)
    assert mean_corruption_error(halved) == pytest.approx(29 / 30)
    assert mean_error(dict(a=[0.0, 1.0], b=[0.2, 0.4])) == pytest.approx(0.4)
    with pytest.raises(ValueError, match='there is none for fog'):
        mean_corruption_error({name: e for name, e in errors.items() if name != 'fog'})
