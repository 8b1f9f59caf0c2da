# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The probe learns beside a training, and leaves it as it is."""

import shutil

import pytest
import torch

from ibot_mm.engine.hooks import OnlineProbeHook

pytestmark = pytest.mark.slow


def with_probe(cfg, **options):
    cfg.custom_hooks = [dict(type='ibot_mm.OnlineProbeHook', **options)]
    return cfg


def probe_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, OnlineProbeHook))


@pytest.mark.parametrize('labels', ['folders', 'data set'])
def test_student_and_teacher_are_the_same_to_the_bit(tiny_config, train, labels):
    states = []
    for probed in (False, True):
        cfg = tiny_config.copy()
        if probed:
            with_probe(cfg)
            cfg.train_dataloader.dataset.with_label = labels == 'data set'
        torch.manual_seed(0)
        runner = train(cfg)
        states.append(runner.model.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    hook = probe_of(runner)
    assert hook.classes == ('class_0', 'class_1')
    assert hook.probe.weight.abs().sum() > 0
    scalars = runner.message_hub.log_scalars
    last = scalars['train/probe_top1'].data[0][-1]
    assert last * 0.08 == pytest.approx(round(last * 0.08))  # a count of 8 crops
    assert scalars['val/probe/top1'].data[0][-1] in (0, 25, 50, 75, 100)
    assert not runner.model._watchers


def test_resumed_probe_is_the_one_that_went_on(tiny_config, train, tmp_path):
    with_probe(tiny_config)
    whole = probe_of(train(tiny_config)).probe
    stored = torch.load(tmp_path / 'work_dir/epoch_2.pth', weights_only=False)
    assert stored['online_probe']['weight'].shape == (3 * 2, 16)
    tiny_config.load_from, tiny_config.resume = str(tmp_path / 'work_dir/epoch_2.pth'), True
    resumed = probe_of(train(tiny_config)).probe
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict())


def test_images_without_labels_are_refused(tiny_config, train, image_folder, tmp_path):
    shutil.copytree(image_folder / 'train/class_0', tmp_path / 'flat')
    with_probe(tiny_config).train_dataloader.dataset.update(
        data_root=str(tmp_path / 'flat'), data_prefix=''
    )
    with pytest.raises(ValueError, match='OnlineProbeHook needs labels'):
        train(tiny_config)


def test_other_classes_are_refused(tiny_config, train, image_folder, tmp_path):
    shutil.copytree(image_folder / 'train', tmp_path / 'other')
    (tmp_path / 'other/class_0').rename(tmp_path / 'other/class_9')
    with_probe(tiny_config).train_dataloader.dataset.update(
        data_root=str(tmp_path / 'other'), data_prefix=''
    )
    with pytest.raises(ValueError, match='needs the same in both'):
        train(tiny_config)


def test_bad_rates_are_refused():
    with pytest.raises(ValueError, match=r'numbers above 0, got \(0\.1, 0\)'):
        OnlineProbeHook((0.1, 0))
