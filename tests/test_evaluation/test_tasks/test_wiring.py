# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""How tasks stand beside protocols: their data, options, rows and figure."""

import json

import pytest

from ibot_mm.evaluation import TASKS, Measurement, Options, name_group, summary_rows
from ibot_mm.evaluation.tasks import CHECKS, settings_of
from ibot_mm.evaluation.tasks.retrieval import RetrievalSettings
from ibot_mm.evaluation_request import Request, split_data
from ibot_mm.frozen_evaluation import evaluate_frozen
from ibot_mm.visualization.evaluation import draw_evaluation


def test_each_task_has_a_check():
    assert set(TASKS) == set(CHECKS)


def test_data_of_single_names():
    assert split_data([]) == (None, {})
    assert split_data(['all', 'knn=a/b=c']) == ('all', dict(knn='a/b=c'))
    assert split_data(['x/y=z']) == ('x/y=z', {})
    request = Request('', data='all', folders=dict(retrieval='other'))
    assert request.folder_of('retrieval') == 'other' and request.folder_of('knn') == 'all'


def test_robustness_is_what_data_is_given_for():
    assert name_group(['knn'], {}, None) == ['knn']
    found = name_group(['knn', 'robustness', 'shuffle'], dict(imagenet_a='a', knn='b'), 'root')
    assert found == ['knn', 'imagenet_a', 'imagenet_c', 'occlusion', 'shuffle']
    assert name_group(['robustness'], dict(backgrounds='b'), None) == ['backgrounds']
    with pytest.raises(ValueError, match='robustness has no data: give --data ROOT'):
        name_group(['robustness'], dict(knn='a'), None)


@pytest.mark.parametrize(
    'entries, message',
    [
        (['a', 'b'], 'takes one plain folder, got a and b'),
        (['knn=a', 'knn=b'], 'two folders for knn: a and b'),
        (['nn=a'], "unknown protocol 'nn'"),
    ],
)
def test_data_that_cannot_be_told_apart(entries, message):
    with pytest.raises(ValueError, match=message):
        split_data(entries)


@pytest.mark.parametrize(
    'changes, tasks, message',
    [
        ({}, {}, 'retrieval has no data: give --data ROOT or --data retrieval=FOLDER'),
        (dict(data='/nowhere'), {}, 'there is no folder /nowhere, the data of retrieval'),
        (dict(data='.'), dict(davos={}), "options of 'davos', which is not a task"),
        (dict(data='.', protocols=('knn',)), dict(retrieval={}), 'which is not asked for'),
        (
            dict(folders=dict(knn='a', linear='b'), protocols=('knn', 'linear')), {},
            'share one pass over one folder',
        ),
    ],
)  # fmt: skip
def test_requests_are_refused_before_weights_are_loaded(changes, tasks, message):
    request = Request('no such checkpoint', **(dict(protocols=('retrieval',)) | changes))
    with pytest.raises(ValueError, match=message):
        evaluate_frozen(request, Options(tasks=tasks))


def test_settings_take_the_kinds_of_their_defaults():
    options = Options(tasks=dict(retrieval=dict(scales=[1, 0.5], ks=3)))
    settings = settings_of(options, 'retrieval', RetrievalSettings)
    assert settings == RetrievalSettings(scales=(1, 0.5), ks=(3,))


def test_text_makes_rows_and_numbers_are_tuned():
    found = [
        Measurement(
            dict(dataset='roxford5k', difficulty='hard', images=4993, queries=70), {'map': 9}
        ),
        Measurement(dict(dataset='a', power=1.0), {'map': 20, 'mp@1': 50}),
        Measurement(dict(dataset='a', power=2.0), {'map': 30, 'mp@1': 40}),
    ]  # fmt: skip
    rows = summary_rows('retrieval', found, 'vit_small_patch16', 0)
    assert [(r['protocol'], r['metric'], r['value']) for r in rows] == [
        ('retrieval roxford5k hard', 'map', 9),
        ('retrieval a', 'map', 30),
        ('retrieval a', 'mp@1', 40),
    ]
    assert [row['published'] for row in rows] == [13.0, None, None]
    other_data = [Measurement(found[0].setting | dict(images=19), {'map': 9})]
    assert summary_rows('retrieval', other_data, 'vit_small_patch16', 0)[0]['published'] is None
    figure = draw_evaluation({}, summary=dict(teacher=rows, untrained=rows))
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        'roxford5k hard map', 'a map', 'a mp@1',
    ]  # fmt: skip
    assert [round(bar.get_width()) for bar in axis.patches] == [9, 30, 40] * 2


@pytest.mark.slow
def test_the_tool(call, checkpoint, splits_folder, roxford, tmp_path):
    """A protocol and a task in one table, file and figure, each with its data."""
    result = call(
        *('tools/evaluate.py', checkpoint, '--protocols', 'knn', 'retrieval', '--ks', 1),
        *('--data', splits_folder, f'retrieval={roxford}', '--baselines', '--num-workers', 0),
        *('--image-size', 16, '--task-options', 'retrieval.image_size=64', 'retrieval.ks=1'),
        *('--out', tmp_path / 'out'),
    )
    assert 'roxford5k' in result.stdout
    results = json.loads((tmp_path / 'out/results.json').read_text())
    assert {name: sorted(found) for name, found in results['measurements'].items()} == dict(
        teacher=['knn', 'retrieval'], untrained=['knn', 'retrieval'], pixels=['knn']
    )
    found = results['measurements']['teacher']['retrieval']
    assert [m['setting']['difficulty'] for m in found] == ['easy', 'medium', 'hard']
    assert results['options']['tasks'] == dict(retrieval=dict(image_size=64, ks=1))
    assert (tmp_path / 'out/results.png').stat().st_size > 10_000


@pytest.mark.slow
def test_several_processes_share_images_and_videos(
    call_together, checkpoint, roxford, videos, tmp_path
):
    tasks = dict(retrieval=dict(image_size=64), davis=dict(short_side=64))
    call_together(
        *('tools/evaluate.py', checkpoint, '--protocols', *tasks, '--launcher', 'pytorch'),
        *('--data', f'retrieval={roxford}', f'davis={videos}', '--num-workers', 0),
        *('--out', tmp_path / 'two', '--task-options', 'retrieval.image_size=64'),
        'davis.short_side=64',
    )
    found = json.loads((tmp_path / 'two/results.json').read_text())
    request = Request(
        str(checkpoint),
        protocols=tuple(tasks),
        folders=dict(retrieval=str(roxford), davis=str(videos)),
        out=str(tmp_path / 'one'),
        num_workers=0,
    )
    expected = evaluate_frozen(request, Options(tasks=tasks))
    for name in tasks:
        pairs = zip(
            found['measurements']['teacher'][name],
            expected['measurements']['teacher'][name],
            strict=True,
        )
        for two, one in pairs:
            assert two['setting'] == one['setting']
            assert two['metrics'] == pytest.approx(one['metrics'])
    objects = [(tmp_path / run / 'davis_objects.csv').read_text() for run in ('one', 'two')]
    assert objects[0] == objects[1]
