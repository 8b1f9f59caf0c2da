# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from ibot_mm.engine import SkippedImagesHook
from ibot_mm.engine.hooks import skipped_images

COUNT = 'train/skipped_images'


@pytest.fixture
def runner(request, tmp_path):
    """What the hook reads of a Runner."""
    return SimpleNamespace(
        message_hub=MessageHub(request.node.name),
        work_dir=str(tmp_path),
        logger=logging.getLogger('test_skipped_images'),
        iter=0,
    )


def batch(*skipped, size=4):
    """A batch whose first image came instead of others."""
    first = SimpleNamespace(skipped_images=list(skipped)) if skipped else SimpleNamespace()
    return dict(data_samples=[first] + [SimpleNamespace()] * (size - 1))


def run(hook, runner, *batches):
    hook.before_train(runner)
    for runner.iter, data in enumerate(batches):
        hook.after_train_iter(runner, runner.iter, data)
    hook.after_train_epoch(runner)


def reports(caplog):
    return [record.getMessage() for record in caplog.records]


def test_counts_and_lists_each_file_once(runner, caplog, tmp_path):
    first, second = ('a.jpg', 'OSError: no\nimage'), ('b c.jpg', 'EOFError')
    hook = SkippedImagesHook(max_share=0.5, interval=2)
    run(hook, runner, batch(first), batch(), batch(first, second))
    assert [text[:16] for text in reports(caplog)] == ['1 of 9 images co', '3 of 15 images c']
    assert '(3 by process 0)' in reports(caplog)[-1]
    assert runner.message_hub.get_scalar(COUNT).data[0].tolist() == [1, 3]
    file = tmp_path / 'skipped_images.txt'
    assert file.read_text() == 'a.jpg\tOSError: no image\nb c.jpg\tEOFError\n'

    run(SkippedImagesHook(max_share=0.5), runner, batch(second))  # as a resumed training does
    assert file.read_text().count('\n') == 2
    assert runner.message_hub.get_scalar(COUNT).current() == 4


def test_sums_over_processes(runner, caplog, monkeypatch, tmp_path):
    others = (8, [('far.jpg', 'EOFError')] * 2)
    monkeypatch.setattr(skipped_images, 'all_gather_object', lambda own: [own, others])
    run(SkippedImagesHook(max_share=0.5), runner, batch(('near.jpg', 'EOFError')))
    assert reports(caplog)[:2] == ['Process 1 skipped far.jpg (EOFError).'] * 2
    assert reports(caplog)[2].startswith('3 of 13 images')
    assert '(1 by process 0, 2 by process 1)' in reports(caplog)[2]
    assert runner.message_hub.get_scalar(COUNT).current() == 3
    names = (tmp_path / 'skipped_images.txt').read_text()
    assert names == 'near.jpg\tEOFError\nfar.jpg\tEOFError\n'


def test_stops_at_too_many(runner, tmp_path):
    bad = batch(('a.jpg', 'EOFError'), ('b.jpg', 'EOFError'))
    with pytest.raises(RuntimeError, match=r'2 of 10 images .* share of 0\.19 .*skipped_images'):
        run(SkippedImagesHook(max_share=0.19), runner, bad, batch())
    assert (tmp_path / 'skipped_images.txt').read_text().startswith('a.jpg\t')
    run(SkippedImagesHook(max_share=0.2), runner, bad, batch())


def test_nothing_skipped_is_no_line(runner, caplog, tmp_path):
    run(SkippedImagesHook(interval=1), runner, batch(), dict(inputs=0))
    assert not caplog.records and not list(tmp_path.iterdir())
    assert COUNT not in runner.message_hub.log_scalars


@pytest.mark.parametrize(
    ('options', 'message'),
    [(dict(max_share=1.5), r'max_share .* 1\.5; from 0'), (dict(interval=0), 'interval .* 0; 1')],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SkippedImagesHook(**options)


def test_in_a_training(tiny_config, train, tmp_path, image_folder):
    """Files and reason reach the work directory from the workers."""
    listed = [str(p.relative_to(image_folder)) for p in sorted(image_folder.rglob('*.jpg'))]
    (tmp_path / 'broken.jpg').write_bytes(b'broken')
    (tmp_path / 'list.txt').write_text('\n'.join([str(tmp_path / 'broken.jpg'), *listed]))
    dataset = tiny_config.train_dataloader.dataset
    dataset.update(data_prefix='', ann_file=str(tmp_path / 'list.txt'))
    dataset.pipeline.load.on_error = 'skip'
    tiny_config.train_dataloader.update(num_workers=1, persistent_workers=True)
    tiny_config.default_hooks.skipped_images.max_share = 1
    tiny_config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    runner = train(tiny_config)
    assert runner.message_hub.get_scalar(COUNT).current() >= 3
    file = tmp_path / 'work_dir/skipped_images.txt'
    assert file.read_text().split('\t')[0] == str(tmp_path / 'broken.jpg')
