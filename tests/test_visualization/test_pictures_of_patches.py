# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Figures of tokens, of a network that sees colors."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.patches import ConnectionPatch

from ibot_mm.visualization import (
    color_patches,
    draw_correspondence,
    draw_embedding,
    draw_neighbors,
    draw_patterns,
    draw_pca,
    draw_similarity,
    embed,
    find_matches,
    find_patterns,
    score_views,
)
from ibot_mm.visualization.style import COLORS, RIGHT, WRONG

WHOLE = [0.0, 0.0, 1.0, 1.0]


def shown(axis):
    return np.asarray(axis.images[0].get_array())


def test_pca_has_the_same_axes_for_all_pictures(network, paint):
    pictures = [paint(['rrg', 'ggb']), paint(['bb', 'rw'])]
    axes = draw_pca(network, pictures, foreground=False).axes
    first, second = shown(axes[1]), shown(axes[3])
    assert first.shape[:2] == (256, 384)  # small pictures are enlarged
    assert np.allclose(first[0, 0], second[-1, 0])  # red in both
    assert np.allclose(first[-1, -1], second[0, 0])  # blue in both
    assert not np.allclose(first[0, 0], first[-1, -1])


def test_foreground_is_what_touches_the_border_less(network, paint):
    picture = paint(['kkkkk', 'kycmk', 'kmycw', 'kkkkk'])
    axes = draw_pca(network, [picture]).axes
    background = np.ptp(shown(axes[1]), axis=2) < 1e-6
    patch = background.shape[0] // 4
    assert background[:patch].all() and background[-patch:].all() and background[:, :patch].all()
    inside = background[patch : 3 * patch, patch:-patch]
    assert inside.mean() < 0.5  # a color may be gray by chance
    assert 'PCA of foreground' in axes[0].figure.get_suptitle()
    inverted = color_patches(
        [torch.randn(4, 5, 3) + 9 * (torch.arange(5) > 3)[:, None]], invert=True
    )
    other = color_patches([torch.randn(4, 5, 3) + 9 * (torch.arange(5) > 3)[:, None]])
    assert inverted.foreground[0].logical_xor(other.foreground[0]).all()


def test_too_few_patches(network, paint):
    with pytest.raises(ValueError, match='3 principal axes need more than 3 patches'):
        draw_pca(network, [paint(['rg'])], foreground=False)
    with pytest.raises(ValueError, match='no pictures'):
        draw_pca(network, [])


def test_similarity_is_one_at_patches_of_the_same_color(network, paint):
    pictures = [paint(['rgb', 'wrk']), paint(['gr'])]
    figure = draw_similarity(network, pictures, [(1, 1), (20, 3)])
    of_red, of_blue = shown(figure.axes[1]), shown(figure.axes[2])
    assert of_red.shape == (2, 3)
    assert np.isclose(of_red, 1).tolist() == [[True, False, False], [False, True, False]]
    assert np.isclose(of_blue, 1).tolist() == [[False, False, True], [False] * 3]
    assert np.isclose(shown(figure.axes[4]), 1).tolist() == [[False, True]]
    cross = figure.axes[2].lines[0].get_xydata()[0]
    assert cross.tolist() == [20, 4]  # the center of the patch
    assert [text.get_text() for text in figure.axes[0].texts] == ['1', '2']


def test_similarity_of_a_grid(network, paint):
    figure = draw_similarity(network, [paint(['rgb', 'wrk'])], grid=2)
    points = [axis.lines[0].get_xydata()[0].tolist() for axis in figure.axes[1:5]]
    assert points == [[4, 4], [20, 4], [4, 12], [20, 12]]
    with pytest.raises(ValueError, match='at least 1 on a side, got 0'):
        draw_similarity(network, [paint(['rg'])], grid=0)


def test_point_outside(network, paint):
    with pytest.raises(ValueError, match='point x=24, y=0 is outside'):
        draw_similarity(network, [paint(['rgb'])], [(24, 0)])


def test_matches_of_two_views(network, paint):
    """The second view is the first one mirrored, of which one patch has another color."""
    first, second = paint(['rgb', 'wkr']), paint(['bgr', 'kkw'])
    corners = torch.tensor([WHOLE, [0.0, 1.0, 1.0, 0.0]])
    matches = find_matches(network, first, second, corners)
    assert matches.truth.tolist() == [2, 1, 0, 5, 4, 3]
    assert matches.overlap.all()
    assert matches.accuracy() == pytest.approx(4 / 6)  # of black one of two, of red the one left
    assert score_views(network, [(first, second, corners)] * 3) == pytest.approx(4 / 6)
    figure = draw_correspondence(network, [(first, second, corners)], number=6)
    lines = [artist for artist in figure.artists if isinstance(artist, ConnectionPatch)]
    assert sorted(line.get_edgecolor()[:3] == blue for line in lines for blue in [rgb(RIGHT)]) == (
        [False] * 2 + [True] * 4
    )
    assert figure.axes[1].get_title() == '67% right, of all in the overlap'
    wrong = next(line for line in lines if line.get_edgecolor()[:3] == rgb(WRONG))
    assert wrong.get_linestyle() == '--'


def rgb(color):
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


def test_matches_of_two_images(network, paint):
    matches = find_matches(network, paint(['rg']), paint(['kg', 'br']))
    assert matches.match.tolist() == [3, 1]
    with pytest.raises(ValueError, match='two views of one image only'):
        matches.accuracy()
    figure = draw_correspondence(network, [(paint(['rg'], 'a'), paint(['kg', 'br'], 'b'))])
    assert [axis.get_title() for axis in figure.axes] == ['a', 'b']


def test_views_that_are_not_whole_patches(network, paint):
    view = paint(['rg'])
    odd = type(view)('odd', np.zeros((9, 16, 3), np.uint8))
    with pytest.raises(ValueError, match='odd of 9 x 16 pixels is not whole patches'):
        find_matches(network, view, odd, torch.tensor([WHOLE, WHOLE]))


def test_patterns_of_patches(network, paint):
    pictures = [paint(['rrr', 'rgr', 'rrr']), paint(['bgb', 'grg', 'bgb']), paint(['wrr'] * 3)]
    red, green = find_patterns(network, pictures, num_prototypes=2, num_members=2, context=3)
    assert [red.prototype, red.count] == [0, 8 + 1 + 9]  # white is of the first of equal logits
    assert [green.prototype, green.count] == [1, 1 + 4]
    assert [member[0] for member in red.members] == [0, 1]  # one of each picture
    assert green.members == [(0, 1, 1), (1, 0, 1)]
    times = green.pictures[0].shape[0] // 24
    assert green.pictures[0].shape == (24 * times, 24 * times, 3)
    assert green.pictures[0][12 * times, 12 * times].tolist() == [0, 255, 0]
    assert green.pictures[1][4 * times, 12 * times].tolist() == [0, 255, 0]  # shifted at the border
    figure = draw_patterns(network, [red, green])
    assert [axis.get_title() for axis in figure.axes] == ['0: 18 chose it', '1: 5 chose it']


def test_patterns_of_cls(network, paint):
    pictures = [paint(['rr']), paint(['bb']), paint(['rk'])]
    red, blue = find_patterns(network, pictures, 'cls')
    assert [image for image, _, _ in red.members] == [0, 2]
    assert [image for image, _, _ in blue.members] == [1]
    assert np.array_equal(red.pictures[0], pictures[0].pixels)


def test_dark_contexts_are_dropped(network, paint):
    pictures = [paint(['kkk', 'kkk', 'kkk']), paint(['rrr', 'rrr', 'rrr'])]
    (red,) = find_patterns(network, pictures, context=3)
    assert [image for image, _, _ in red.members] == [1]
    with pytest.raises(ValueError, match='too dark'):
        draw_patterns(network, find_patterns(network, pictures[:1], context=3))


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(token='mean'), r"one of \('patch', 'cls'\), got 'mean'"),
        (dict(num_members=0), 'num_members must be at least 1, got 0'),
    ],
)
def test_wrong_options_of_patterns(network, paint, changes, message):
    with pytest.raises(ValueError, match=message):
        find_patterns(network, [paint(['rg'])], **changes)


def test_patterns_need_a_head_and_one_size(network, paint):
    with pytest.raises(ValueError, match='pictures of one size, got 2 grids'):
        find_patterns(network, [paint(['rg']), paint(['r'])])
    network.neck = None
    with pytest.raises(ValueError, match=r'epoch_1.pth \(teacher\) has no projection head'):
        find_patterns(network, [paint(['rg'])])


def test_neighbors(network, paint):
    gallery = [
        paint(['bb'], 'x/b'),
        paint(['rr'], 'y/r'),
        paint(['rw'], 'z/p'),
        paint(['gg'], 'x/g'),
    ]
    figure = draw_neighbors(network, [paint(['rr'])], gallery, number=2)
    assert np.array_equal(shown(figure.axes[1]), gallery[2].pixels)  # not the image itself
    assert figure.axes[1].get_title().endswith(' z')
    assert len(figure.axes) == 3
    with pytest.raises(ValueError, match='nothing but the images themselves'):
        draw_neighbors(network, [paint(['rr'])], [paint(['rr'])])
    with pytest.raises(ValueError, match='at least 1, got 0'):
        draw_neighbors(network, [paint(['rr'])], gallery, number=0)


@pytest.mark.parametrize('method', ['pca', 'tsne'])
def test_plane_keeps_groups_apart(network, method):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(24, 8, generator=generator) * 0.05
    features[12:, 0] += 1
    features[:12, 1] += 1
    points = embed(features, method)
    assert points.shape == (24, 2)
    centers = points[:12].mean(axis=0), points[12:].mean(axis=0)
    spread = max(points[:12].std(axis=0).max(), points[12:].std(axis=0).max())
    assert np.linalg.norm(centers[0] - centers[1]) > 2 * spread
    figure = draw_embedding(network, points, ['a'] * 12 + ['b'] * 12, method)
    first, second = figure.axes[0].collections
    assert np.allclose(first.get_offsets(), points[:12])
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ['a', 'b']


@pytest.mark.parametrize('number, neighbors', [(5, 4), (40, 15)])
def test_umap_is_given_what_fits(monkeypatch, number, neighbors):
    class Stub:
        def __init__(self, **options):
            assert options['metric'] == 'cosine' and options['random_state'] == 3
            assert options['n_neighbors'] == neighbors

        def fit_transform(self, array):
            return array[:, :2]

    monkeypatch.setitem(sys.modules, 'umap', SimpleNamespace(UMAP=Stub))
    features = torch.randn(number, 6)
    assert np.allclose(embed(features, 'umap', 3), features[:, :2])


def test_many_classes_differ_in_color_or_shape(network):
    points = np.random.default_rng(0).normal(size=(80, 2))
    classes = [f'{index // 2:02}' for index in range(80)]
    axis = draw_embedding(network, points, classes, 'pca').axes[0]
    others, *single = axis.collections
    assert len(others.get_offsets()) == 10 and len(single) == 35
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in single}
    assert len(looks) == 35


def test_wrong_planes(monkeypatch):
    with pytest.raises(ValueError, match='at least 4 of them, got 3'):
        embed(torch.randn(3, 8))
    with pytest.raises(ValueError, match="got 'mds'"):
        embed(torch.randn(8, 8), 'mds')
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(ImportError, match='pip install umap-learn, or use tsne'):
        embed(torch.randn(8, 8), 'umap')


def test_colors_differ_for_the_color_blind():
    """Of Okabe and Ito; also those of right and wrong, which differ in lightness too."""
    assert len(set(COLORS)) == 8
    luma = [np.dot(rgb(color), [0.299, 0.587, 0.114]) for color in (RIGHT, WRONG)]
    assert abs(luma[0] - luma[1]) > 0.05
