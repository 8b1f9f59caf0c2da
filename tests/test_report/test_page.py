# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The page about trainings, from work directories that are written here."""

import json
import re
import runpy
import shlex
from base64 import b64decode
from html import unescape
from html.parser import HTMLParser

import pytest
from mmengine.config import Config
from PIL import Image

from ibot_mm.evaluation import Options
from ibot_mm.evaluation_request import Request
from ibot_mm.recipe import CONFIGS
from ibot_mm.report import read_run, write_report
from ibot_mm.report.base import flatten, nearest_base
from ibot_mm.report.commands import evaluation_command
from ibot_mm.report.energy import energy_estimate


def test_what_is_read(run, image_folder):
    found = read_run(run)
    assert found.base == 'pretrain/ibot_vit_demo.py'
    assert found.delta['optim_wrapper.optimizer.lr'] == (1e-3, 0.5)
    assert found.delta['model.backbone.arch.embed_dims'] == (96, 32)
    assert set(found.delta) == {
        'optim_wrapper.optimizer.lr',
        'model.neck.in_channels',
        *(f'model.backbone.arch.{key}' for key in
          ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')),
        *(f'val_dataloader.dataset.{split}.data_root' for split in ('bank', 'query')),
    }  # fmt: skip
    assert found.facts['images'] == 'data/demo/imagenet/ train'
    assert found.facts['batch'] == '64 x 4'
    assert found.facts['device'] == 'NVIDIA Something'
    assert found.facts['length'] == '32 epochs, 75% done'
    assert found.facts['GPU-hours'] == f'{4 * 24 * 9 / 3600:.1f}'
    assert 'energy' not in found.facts  # of a GPU whose power is not known
    assert found.facts['commit of ibot-mm'] == 'abc1234'
    assert found.facts['started from'] == 'random weights'
    assert found.metrics == {'knn/top1_k20': (54.0, 54.0)}
    assert found.verdict == 'healthy' and found.curves.startswith(b'\x89PNG')
    assert found.checkpoint.name == 'epoch_24.pth'
    assert set(found.figures) == {'attention'}
    assert len(found.seen) == 3 and found.missing == []


@pytest.mark.parametrize('device, energy', [
    ('NVIDIA A100-SXM4-80GB', 'at most 4.0 kWh'),
    ('NVIDIA H100 80GB HBM3', 'at most 7.0 kWh'),
    ('NVIDIA H100 PCIe', 'at most 3.5 kWh'),
    ('Tesla T4', 'at most 0.7 kWh'),
    ('NVIDIA T4000', None),
    ('NVIDIA L40', None),
    ('NVIDIA Something', None),
])  # fmt: skip
def test_energy_where_the_power_is_stated(device, energy):
    estimate = energy_estimate(device, 10.0)
    assert estimate is None if energy is None else estimate.startswith(energy)


def test_pictures_can_be_left_out_and_of_other_images(run, tmp_path, monkeypatch):
    monkeypatch.setattr('ibot_mm.report.pictures.images_of', lambda cfg: tmp_path / 'none')
    page = write_report([run], tmp_path / 'page.html').read_text()
    assert 'Not on this page' in page and 'none is not there (--images' in page
    assert 'What the network sees' not in page
    folder = tmp_path / 'others'
    folder.mkdir()
    for number in range(2):
        Image.new('RGB', (40, 40), (50 * number, 90, 10)).save(folder / f'{number}.png')
    assert len(read_run(run, folder).seen) == 3


def test_a_checkpoint_that_cannot_be_read_is_named(run, tmp_path):
    (run / 'epoch_24.pth').write_bytes(b'')
    page = write_report([run], tmp_path / 'page.html').read_text()
    assert 'Not on this page' in page and 'epoch_24.pth is empty' in page


def test_too_many_pictures_are_counted(run):
    for number in range(30):
        Image.new('RGB', (4, 3)).save(run / f'evaluation/{number}.png')
    found = read_run(run, with_pictures=False)
    assert len(found.figures) == 24 and list(found.figures)[0] == 'attention'
    assert found.missing == [f'7 more PNG files below {run}']


def test_comparisons_stand_with_their_predictions(run, tmp_path):
    folder = run / 'mask_rcnn'
    folder.mkdir()
    sides = {'coco/bbox_mAP': 0.1234, 'coco/bbox_mAP_l': -1.0}
    metrics = dict(pretrained=sides, scratch=sides | {'coco/bbox_mAP': 0.05})
    (folder / 'metrics.json').write_text(json.dumps(metrics))
    Image.new('RGB', (4, 3), 'blue').save(folder / 'predictions.png')
    found = read_run(run, with_pictures=False)
    header, rows = found.comparisons['mask_rcnn']
    assert header == ['metric', 'pre-trained', 'from scratch']
    assert rows == [['coco/bbox_mAP', '0.1234', '0.05'], ['coco/bbox_mAP_l', '', '']]
    page = write_report([run], tmp_path / 'page.html', with_pictures=False).read_text()
    assert page.count('alt="mask_rcnn/predictions"') == 1
    assert page.index('mask_rcnn/predictions') < page.index('Pictures in its folder')


def test_the_command_of_an_evaluation_asks_for_the_same():
    parse_args = runpy.run_path(str(CONFIGS.parents[2] / 'tools/evaluate.py'))['parse_args']
    request = dict(
        checkpoint='x & y.pth', data='a b', folders=dict(davis='d'), network='student',
        config='c.py', protocols=['knn', 'davis'], out='o', baselines=True, image_size=64,
        num_blocks=None, pooling=None, dtype='float16', batch_size=128, num_workers=0,
        assume=dict(num_heads=6), prefix=None, attention=None,
    )  # fmt: skip
    options = dict(ks=[5], epochs=3, shares=[0.5], seed=0, tasks=dict(davis=dict(topk=10)))
    results = dict(checkpoint=request['checkpoint'], request=request, options=options)
    words = shlex.split(evaluation_command(results))
    assert words[:2] == ['python', 'tools/evaluate.py']
    args = vars(parse_args(words[2:]))
    assert args.pop('data') == ['a b', 'davis=d']
    assert args['task_options'] == {'davis.topk': 10}
    for name in vars(Request('')):
        assert args.get(name, request[name]) == request[name], name
    for name in ('ks', 'epochs', 'shares', 'seed'):
        assert args[name] == options[name]
    assert '--seed' not in words and hasattr(Options(), 'seed')


def test_the_page_is_one_file_that_needs_no_network(run, tmp_path):
    page = write_report([run], tmp_path / 'reports/page.html', with_pictures=False).read_text()
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


@pytest.mark.slow
def test_the_lines_that_use_the_weights_run(run, tmp_path, image_folder, call):
    """As they are copied from the page: commands, then timm, Hugging Face and OpenMMLab."""
    page = write_report([run], tmp_path / 'page.html', with_pictures=False).read_text()
    blocks = {
        kind: [
            unescape(text) for text in re.findall(rf'<pre class="{kind}">(.*?)</pre>', page, re.S)
        ]
        for kind in ('shell', 'python')
    }
    commands = blocks['shell'][0].replace('my/images', str(image_folder / 'val')).splitlines()
    commands[0] += ' --image-size 32 --num-workers 0'
    assert len(commands) == 3 and len(blocks['python']) == 4
    script = tmp_path / 'copied.py'
    script.write_text(
        'import os, shlex, torch\n'
        'from ibot_mm.cli import main\n'
        f'os.chdir({str(tmp_path)!r})\n'
        f'for line in {commands!r}:\n'
        '    try: main(shlex.split(line)[1:])\n'
        '    except SystemExit as end: assert not end.code, end.code\n'
        'torch.manual_seed(0)\n'
        'space = {}\n'
        'found = []\n'
        f'for block in {blocks["python"]!r}:\n'
        '    exec(block, space)\n'
        '    if "tokens" in space: found.append(space["tokens"])\n'
        'assert len(found) == 3\n'
        'for tokens in found: torch.testing.assert_close(tokens, found[-1], atol=1e-5, rtol=1e-5)\n'
        'print(tuple(found[-1].shape))\n'
    )
    assert '(1, 17, 32)' in call(script).stdout
    assert (tmp_path / 'features.npy').exists()


def test_several_stand_side_by_side(run, tmp_path):
    other = tmp_path / 'second'
    run.rename(other)
    copy = tmp_path / 'third'
    (copy / '1/vis_data').mkdir(parents=True)
    scalars = (other / '20260101_000000/vis_data/scalars.json').read_text()
    (copy / '1/vis_data/scalars.json').write_text('\n'.join(scalars.splitlines()[:7]) + '\n{"lo')
    (copy / 'config.py').write_text((other / 'config.py').read_text())
    page = write_report([other, copy], tmp_path / 'page.html', with_pictures=False).read_text()
    row = re.search(r'<tr><td>knn/top1_k20</td>(.*?)</tr>', page)[1]
    assert re.findall(r'>([\d.]+)<', row) == ['54', '36']
    assert 'There is no checkpoint yet' in page  # the second one has just begun


def test_wrong_input(run, tmp_path):
    with pytest.raises(ValueError, match='named twice'):
        write_report([run, run], tmp_path / 'x.html')
    with pytest.raises(ValueError, match='html'):
        write_report([run], tmp_path / 'x.pdf')
    with pytest.raises(FileNotFoundError, match='scalars.json'):
        write_report([tmp_path], tmp_path / 'x.html')
    with pytest.raises(FileNotFoundError, match='not a folder of images'):
        write_report([run], tmp_path / 'x.html', images=tmp_path / 'none')
    (run / 'config.py').unlink()
    with pytest.raises(FileNotFoundError, match='has no config'):
        write_report([run], tmp_path / 'x.html')
    assert not list(tmp_path.glob('x.*'))


def test_the_nearest_config_of_other_rooms():
    cfg = Config.fromfile(CONFIGS / 'cls/linear_vitb16_100e_in1k.py')
    assert nearest_base(cfg) == ('cls/linear_vitb16_100e_in1k.py', {})
    nested = dict(a=dict(b=(1, (2, [(3,)])), _scope_='x'), c=3)
    assert flatten(nested) == {'a.b': [1, [2, [[3]]]], 'c': 3}
