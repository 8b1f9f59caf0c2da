# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json

import pytest

from benchmarks import reduced_decoding, stores
from benchmarks.loading import write_photographs

pytest.importorskip('lmdb')
pytest.importorskip('webdataset')


@pytest.fixture(autouse=True)
def on_any_core(monkeypatch):
    """Leave the process of the tests as it is."""
    monkeypatch.setattr(stores, 'use_one_core', lambda threads: None)
    monkeypatch.setattr(reduced_decoding, 'use_one_core', lambda threads: None)


def run(module, tmp_path, *options):
    file = tmp_path / 'figures.json'
    module.main([*map(str, options), '--json', str(file)])
    return json.loads(file.read_text())['figures']


@pytest.mark.slow
def test_every_store_is_read(tmp_path, capsys):
    figures = run(stores, tmp_path, '--images', 4, '--per-shard', 2, '--rounds', 1)
    assert set(figures) == {
        *("torchvision's ImageFolder", "webdataset's loader", 'folder', 'tar', 'zip', 'LMDB'),
        *('Arrow', 'parquet, ShardSampler'),
    }
    assert all(figure['median'] > 0 for figure in figures.values())
    printed = capsys.readouterr().out
    assert 'images/s, 1' in printed or " times torchvision's ImageFolder" in printed


@pytest.mark.slow
def test_a_slow_store(tmp_path):
    pytest.importorskip('aiohttp')
    options = ('--images', 4, '--per-shard', 2, '--rounds', 1, '--workers', 0)
    slow = run(stores, tmp_path, *options, '--latency', 0.05, '--bandwidth', 2e6)
    assert set(slow) == {'tar, byte ranges', 'tar, whole copies', "webdataset's loader"}
    assert slow['tar, byte ranges']['median'] > 50  # a request for each image


def test_reduced_decoding(tmp_path):
    reduced_decoding.write_large(tmp_path / 'large', 2, 1200, 1100)
    figures = run(
        reduced_decoding, tmp_path, '--images', tmp_path / 'large', '--crops', 2, '--number', 2
    )
    assert (figures['images'], figures['reduced'], figures['reduction']) == (2, 2, 2)
    for kind in ('global', 'local'):
        assert 0 < figures[f'{kind}_mean'] < 10 and figures[f'{kind}_psnr'] > 25
    write_photographs(tmp_path / 'small', 1)
    with pytest.raises(SystemExit, match='none of 1 images .* 1036 pixels'):
        run(reduced_decoding, tmp_path, '--images', tmp_path / 'small')
