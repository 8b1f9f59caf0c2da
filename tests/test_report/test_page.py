# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The page about trainings, from work directories that are written here."""

import json
import re
from base64 import b64decode
from html.parser import HTMLParser

import pytest
from mmengine.config import Config
from PIL import Image

from ibot_mm.recipe import CONFIGS
from ibot_mm.report import read_run, write_report
from ibot_mm.report.base import flatten, nearest_base

LOG = """
System environment:
    Python: 3.11.7 (main) [GCC 12]
    CUDA available: True
    GPU 0,1,2,3: NVIDIA Something
    PyTorch: 2.11.0
    GPU number: 4
"""


@pytest.fixture
def run(tmp_path):
    """Half of a training of the demo's config with another rate, and an evaluation of it."""
    folder = tmp_path / 'first & only'
    logs = folder / '20260101_000000/vis_data'
    logs.mkdir(parents=True)
    records = []
    for step in range(1, 25):
        values = dict(
            loss_cls=5.5 - step / 20, loss_patch=2.0, cls_entropy=0.5, agreement=step / 50
        )
        records.append(dict(values, lr=1e-3, time=9.0, epoch=step, iter=step, step=step))
        if step % 6 == 0:
            records.append({'knn/top1_k20': 30.0 + step, 'step': step})
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, records)))
    (logs.parent / 'run.log').write_text(LOG)
    cfg = Config.fromfile(CONFIGS / 'pretrain/ibot_vit_demo.py')
    cfg.optim_wrapper.optimizer.lr = 0.5
    cfg.dump(folder / 'config.py')
    row = dict(protocol='knn', metric='top1', value=61.25, setting={}, published=None)
    results = dict(
        checkpoint='epoch_24.pth',
        request=dict(protocols=['knn'], data='my/<images>', config=None),
        summary=dict(teacher=[row], pixels=[row | dict(value=33.0)]),
    )
    (folder / 'evaluation').mkdir()
    (folder / 'evaluation/results.json').write_text(json.dumps(results))
    (folder / 'epoch_24.pth').touch()
    Image.new('RGB', (4, 3), 'red').save(folder / 'attention.png')
    return folder


def test_what_is_read(run):
    found = read_run(run)
    assert found.base == 'pretrain/ibot_vit_demo.py'
    assert found.delta == {'optim_wrapper.optimizer.lr': (1e-3, 0.5)}
    assert found.facts['batch'] == '64 x 4'
    assert found.facts['device'] == 'NVIDIA Something'
    assert found.facts['length'] == '48 epochs, 50% done'
    assert found.facts['GPU-hours'] == f'{4 * 24 * 9 / 3600:.1f}'
    assert found.metrics == {'knn/top1_k20': (54.0, 54.0)}
    assert found.verdict == 'healthy'
    assert found.checkpoint.name == 'epoch_24.pth'
    assert set(found.figures) == {'Curves', 'attention'}


def test_the_page_is_one_file_that_needs_no_network(run, tmp_path):
    page = write_report([run], tmp_path / 'reports/page.html').read_text()
    parser = HTMLParser()
    parser.feed(page)
    parser.close()
    assert not re.search(r'(src|href)="?(?!data:)[^"> ]', page)
    assert '<link' not in page and '<script' not in page and '@import' not in page
    pictures = [b64decode(text) for text in re.findall(r'base64,([^"]+)"', page)]
    assert len(pictures) == 2 and all(png.startswith(b'\x89PNG') for png in pictures)
    for text in (
        'first &amp; only',
        'my/&lt;images&gt;',
        '61.2',
        '33.0',
        'optim_wrapper.optimizer.lr',
    ):
        assert text in page
    assert str(run / 'epoch_24.pth') in page.replace('&amp;', '&')


def test_several_stand_side_by_side(run, tmp_path):
    other = tmp_path / 'second'
    run.rename(other)
    copy = tmp_path / 'third'
    (copy / '1/vis_data').mkdir(parents=True)
    scalars = (other / '20260101_000000/vis_data/scalars.json').read_text()
    (copy / '1/vis_data/scalars.json').write_text('\n'.join(scalars.splitlines()[:7]) + '\n{"lo')
    (copy / 'config.py').write_text((other / 'config.py').read_text())
    page = write_report([other, copy], tmp_path / 'page.html').read_text()
    row = re.search(r'<tr><td>knn/top1_k20</td>(.*?)</tr>', page)[1]
    assert re.findall(r'>([\d.]+)<', row) == ['54.00', '36.00']
    assert 'There is no checkpoint yet' in page  # the second one has just begun


def test_wrong_input(run, tmp_path):
    with pytest.raises(ValueError, match='named twice'):
        write_report([run, run], tmp_path / 'x.html')
    with pytest.raises(ValueError, match='html'):
        write_report([run], tmp_path / 'x.pdf')
    with pytest.raises(FileNotFoundError, match='scalars.json'):
        write_report([tmp_path], tmp_path / 'x.html')
    (run / 'config.py').unlink()
    with pytest.raises(FileNotFoundError, match='has no config'):
        write_report([run], tmp_path / 'x.html')
    assert not list(tmp_path.glob('x.*'))


def test_the_nearest_config_of_other_rooms():
    cfg = Config.fromfile(CONFIGS / 'cls/linear_vitb16_100e_in1k.py')
    assert nearest_base(cfg) == ('cls/linear_vitb16_100e_in1k.py', {})
    nested = dict(a=dict(b=(1, (2, [(3,)])), _scope_='x'), c=3)
    assert flatten(nested) == {'a.b': [1, [2, [[3]]]], 'c': 3}
