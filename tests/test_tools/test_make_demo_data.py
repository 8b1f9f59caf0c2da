# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import functools
import json
import runpy
import sys
from pathlib import Path

import pytest

from ibot_mm.datasets.demo import DemoSettings

TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_demo_data.py'


@pytest.fixture
def run(monkeypatch):
    def run_tool(*arguments: str) -> None:
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *arguments])
        runpy.run_path(str(TOOL), run_name='__main__')

    return run_tool


@pytest.mark.slow
def test_writes_three_formats_and_refuses_to_write_them_again(run, tmp_path, capsys, monkeypatch):
    few = functools.partial(DemoSettings, num_scenes_train=6, num_scenes_val=3)
    monkeypatch.setattr('ibot_mm.datasets.demo.DemoSettings', few)
    out = tmp_path / 'data'
    arguments = ['--out', str(out), '--seed', '3', '--train', '20', '--val', '10']
    arguments += ['--num-workers', '1']
    run(*arguments, '--image-size', '32')
    assert f'demo data is in {out}' in capsys.readouterr().out.replace('\n', ' ')
    assert sorted(path.name for path in out.iterdir()) == [
        'ade',
        'coco',
        'demo_data.json',
        'imagenet',
    ]
    settings = json.loads((out / 'demo_data.json').read_text())['settings']
    assert (settings['seed'], settings['image_size']) == (3, 32)
    assert len(list(out.glob('imagenet/train/*/*.jpg'))) == settings['num_train'] == 20
    assert len(list(out.glob('imagenet/val/*/*.jpg'))) == settings['num_val'] == 10
    assert len(list(out.glob('coco/train/*.jpg'))) == settings['num_scenes_train']
    assert len(list(out.glob('ade/images/validation/*.jpg'))) == settings['num_scenes_val']

    with pytest.raises(SystemExit, match='--overwrite'):
        run(*arguments)


def test_bad_count_is_one_clear_line(run, tmp_path):
    with pytest.raises(SystemExit) as stop:
        run('--out', str(tmp_path / 'data'), '--train', '3')
    assert stop.value.code.startswith('make_demo_data: num_train=3 is too few')
    assert '\n' not in stop.value.code
    assert list(tmp_path.iterdir()) == []
