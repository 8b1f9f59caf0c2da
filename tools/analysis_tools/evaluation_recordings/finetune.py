# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Fine-tuning: parameter groups, schedules, mixing and losses, and a whole training."""

from typing import Any
from unittest.mock import patch

from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample
from torch import nn

from ibot_mm.models import ReversedCutMix, ReversedMixup, SmoothedCrossEntropy

from .configured import TINY, Configured, groups_of, in_order_of_appearance, our_names
from .recording import Recording

RECORDS = ('*.layer_id', 'schedule.*', 'mix0.out_images', 'run.losses')
INPUTS = (
    *('*.names', '*.ndim', 'run.init.*', 'run.images', 'run.targets'),
    *(f'mix*.{key}' for key in ('images', 'labels', 'cutmix', 'lam_drawn', 'box', 'logits')),
)
VIT, SWIN = 'cls/finetune_vits16_200e_in1k', 'ibot_mm.MaskedSwinTransformer'


def replay(recording: Recording) -> dict[str, Any]:
    """Run the config of fine-tuning ViT-S/16, its sizes changed to the recorded ones."""
    values: dict[str, Any] = {}
    for name in ('vit_small', 'swin_tiny'):
        if f'{name}.names' in recording.arrays:
            groups = _parameter_groups(recording, name)
            values |= {f'{name}.{key}': value for key, value in groups.items()}
    for name, settings in recording.settings['schedules'].items():
        values[f'schedule.{name}'] = _learning_rates(settings)
    for name in {n.split('.')[0] for n in recording.arrays if n.startswith('mix')}:
        values |= {f'{name}.{key}': value for key, value in _mix(recording, name).items()}
    return values | {f'run.{key}': value for key, value in _run(recording).items()}


def _pooling(mean: bool) -> dict[str, Any]:
    """Mean of the patches before the final norm, then a norm; or [CLS], as the configs have it."""
    if not mean:
        return {}
    return {'model.backbone.out_type': 'avg_featmap', 'model.backbone.final_norm': False}


def _parameter_groups(recording: Recording, name: str) -> dict[str, Any]:
    settings = recording.settings
    changes: dict[str, Any] = {
        'optim_wrapper.paramwise_cfg.layer_decay_rate': settings['layer_decay'],
        'optim_wrapper.optimizer.weight_decay': settings['weight_decay'],
    }
    if name == 'swin_tiny':
        changes['model.backbone'] = dict(_delete_=True, type=SWIN, mask_token=False)
    else:
        changes |= _pooling(settings['vit_small_mean_pooling'])
    configured = Configured(VIT, changes)
    groups = groups_of(configured.wrapper.optimizer, configured.model)
    ndims = recording.arrays[f'{name}.ndim'].tolist()
    ours = our_names(recording.arrays[f'{name}.names'].tolist(), ndims)
    peak = configured.config.optim_wrapper.optimizer.lr
    return dict(
        layer_id=[configured.model.get_layer_depth(n)[0] for n in ours],
        lr_scale=[groups[n][1]['lr'] / peak for n in ours],
        weight_decay=[groups[n][1]['weight_decay'] for n in ours],
        group=in_order_of_appearance(groups[n][0] for n in ours),
    )


def _schedule_changes(settings: dict[str, Any]) -> dict[str, Any]:
    changes = {
        'optim_wrapper.optimizer.lr': settings['base_value'],
        'learning_rate_schedule.final_ratio': settings['final_value'] / settings['base_value'],
        'learning_rate_schedule.warmup': settings['warmup_epochs'],
        'train_cfg.max_epochs': settings['epochs'],
    }
    if settings.get('warmup_steps', 0) > 0:  # the training's length in steps, too
        length = settings['niter_per_ep']
        changes |= {
            'learning_rate_schedule.convert_to_iter_based': False,
            'learning_rate_schedule.by_epoch': False,
            'learning_rate_schedule.warmup': settings['warmup_steps'],
            'train_cfg.max_epochs': settings['epochs'] * length,
        }
    return changes


def _learning_rates(settings: dict[str, Any]) -> list[float]:
    configured = Configured(VIT, TINY | _schedule_changes(settings))
    schedule = configured.build_schedule(settings['niter_per_ep'])
    rates = []
    for _ in range(settings['epochs'] * settings['niter_per_ep']):
        rates.append(configured.wrapper.param_groups[0]['lr'])  # of the head, at the full rate
        configured.wrapper.optimizer.step()
        schedule.step()
    return rates


def _mix(recording: Recording, name: str) -> dict[str, Any]:
    settings, cutmix = recording.settings['mix'], bool(recording.arrays[f'{name}.cutmix'])
    images, labels = recording.tensor(f'{name}.images'), recording.tensor(f'{name}.labels')
    scores = nn.functional.one_hot(labels, settings['num_classes']).double()
    drawn = float(recording.arrays[f'{name}.lam_drawn'])
    with patch('numpy.random.beta', return_value=drawn):
        if cutmix:
            box = tuple(recording.arrays[f'{name}.box'].tolist())
            augment = ReversedCutMix(settings['cutmix_alpha'])
            with patch.object(augment, 'rand_bbox', return_value=box):
                mixed, scores = augment(images, scores)
        else:
            mixed, scores = ReversedMixup(settings['mixup_alpha'])(images, scores)
    loss, logits = (
        SmoothedCrossEntropy(settings['smoothing']),
        recording.tensor(f'{name}.logits'),
    )
    return dict(
        out_images=mixed,
        out_targets=loss.targets(scores),
        soft_target_loss=loss(logits, scores),
        label_smoothing_loss=loss(logits, labels),
    )


def _run(recording: Recording) -> dict[str, Any]:
    """Train a tiny ViT for epochs on given targets, which are smoothed and mixed already."""
    settings, images = recording.settings['run'], recording.tensor('run.images')
    width, update_freq = settings['embed_dim'], settings['update_freq']
    clip = settings['clip_grad']
    changes: dict[str, Any] = _pooling(settings['mean_pooling']) | _schedule_changes(
        settings
        | dict(
            base_value=settings['lr'],
            final_value=settings['min_lr'],
            niter_per_ep=settings['steps_per_epoch'],
        )
    )
    changes |= {
        'model.backbone.arch': dict(
            _delete_=True,
            embed_dims=width,
            num_layers=settings['depth'],
            num_heads=settings['num_heads'],
            feedforward_channels=width * settings['mlp_ratio'],
        ),
        'model.backbone.norm_cfg': dict(type='LN', eps=settings['norm_eps']),
        'model.backbone.img_size': settings['image_size'],
        'model.backbone.patch_size': settings['patch_size'],
        'model.backbone.drop_path_rate': 0.0,
        'model.head.in_channels': width,
        'model.head.num_classes': settings['classes'],
        'model.head.loss.smoothing': 0.0,
        'optim_wrapper.optimizer.betas': settings['betas'],
        'optim_wrapper.optimizer.eps': settings['eps'],
        'optim_wrapper.optimizer.weight_decay': recording.settings['weight_decay'],
        'optim_wrapper.paramwise_cfg.layer_decay_rate': recording.settings['layer_decay'],
        'optim_wrapper.accumulative_counts': update_freq,
        'optim_wrapper.clip_grad': dict(max_norm=clip or float('inf')),  # to see the norm
        'learning_rate_schedule.accumulative_counts': update_freq,
    }
    configured = Configured(VIT, changes)
    model, wrapper = configured.model.train(), configured.wrapper
    start = recording.tensors('run.init.')
    names = our_names(start)
    model.load_state_dict(dict(zip(names, start.values())), strict=True)
    schedule = configured.build_schedule(settings['steps_per_epoch'] * update_freq)

    targets = recording.tensor('run.targets')
    micro_steps = zip(images.flatten(0, 1), targets.flatten(0, 1))
    run = dict[str, list](losses=[], grad_norms=[], lr=[])
    for number, (batch, scores) in enumerate(micro_steps, start=1):
        samples = [DataSample().set_gt_score(score) for score in scores]
        loss = model.loss(batch, samples)['loss']
        run['losses'].append(loss.item())
        rate = wrapper.param_groups[0]['lr']
        wrapper.update_params(loss)
        if number % update_freq == 0:
            run['lr'].append(rate)
            norm = MessageHub.get_current_instance().get_scalar('train/grad_norm').current()
            run['grad_norms'].append(norm)
        schedule.step()
    end = {n: p.detach() for n, p in model.state_dict().items()}
    final = {f'final.{theirs}': end[ours] for theirs, ours in zip(start, names)}
    return run | final
