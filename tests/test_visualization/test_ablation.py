# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest

from ibot_mm.visualization import draw_ablation
from ibot_mm.visualization.curves import COLORS

ARMS = dict(full={0: 60.0, 1: 64.0}, random={0: 30.0, 1: 30.0}, failed={})


def test_seeds_means_and_deviations_are_drawn():
    figure = draw_ablation(dict(knn=ARMS, linear=dict(ARMS, random={0: 10.0})), {'random'})
    axis, second = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == [
        'full', 'random (collapsed)', 'failed',
    ]  # fmt: skip
    full, random = axis.containers
    assert full.lines[0].get_xdata().tolist() == [62.0]
    low, high = full.lines[2][0].get_segments()[0][:, 0]
    assert (high - low) / 2 == pytest.approx(8**0.5)
    assert [full.lines[0].get_color(), random.lines[0].get_color()] == list(COLORS[:2])
    seeds = [offset[0] for offset in axis.collections[1].get_offsets()]
    assert seeds == [60.0, 64.0]
    assert len(second.containers) == 2 and second.get_xlabel() == 'linear (%)'


def test_nothing_to_draw():
    with pytest.raises(ValueError, match='no metric was measured'):
        draw_ablation({})
