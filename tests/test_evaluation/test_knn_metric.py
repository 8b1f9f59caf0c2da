# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
import math
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample
from torch import Tensor

from ibot_mm.evaluation import KNNAccuracy
from ibot_mm.functional.knn import weighted_knn

KS = (1, 5, 20)
BANK, QUERIES, CLASSES = 26, 15, 7  # together odd, so that two processes need a repeated sample


def make_samples(bank: int = BANK, queries: int = QUERIES) -> list[DataSample]:
    generator = torch.Generator().manual_seed(3)
    centers = torch.randn(CLASSES, 6, generator=generator)
    samples = []
    for index in range(bank + queries):
        label = int(torch.randint(CLASSES, (), generator=generator))
        sample = DataSample().set_gt_label(label)
        feature = centers[label] + torch.randn(6, generator=generator)
        sample.set_field(feature, 'feature')
        split = 'bank' if index < bank else 'query'
        sample.set_metainfo(dict(knn_split=split, knn_index=index))
        samples.append(sample)
    return samples


def expected_metrics(samples: list[DataSample], ks: tuple[int, ...] = KS) -> dict[str, float]:
    def part(split: str) -> tuple[Tensor, Tensor]:
        chosen = [sample for sample in samples if sample.knn_split == split]
        return torch.stack([s.feature for s in chosen]), torch.cat([s.gt_label for s in chosen])

    (bank, bank_labels), (query, targets) = part('bank'), part('query')
    metrics = {}
    for k, predictions in weighted_knn(bank, bank_labels, query, ks).items():
        hits = predictions == targets[:, None]
        metrics[f'knn/top1_k{k}'] = 100 * hits[:, 0].float().mean().item()
        metrics[f'knn/top5_k{k}'] = 100 * hits.any(dim=1).float().mean().item()
    return metrics


def evaluate(samples: list[DataSample], batch_size: int = 4, **kwargs) -> dict[str, float]:
    evaluator = Evaluator(dict(type='ibot_mm.KNNAccuracy', **dict(ks=KS) | kwargs))
    for start in range(0, len(samples), batch_size):
        evaluator.process(samples[start : start + batch_size])
    return evaluator.evaluate(BANK + QUERIES)


def test_equals_function_on_all_features():
    samples = make_samples()
    metrics = evaluate(samples)
    assert metrics == pytest.approx(expected_metrics(samples))
    assert list(metrics)[:2] == ['knn/top1_k1', 'knn/top5_k1']
    assert 0 < metrics['knn/top1_k5'] < metrics['knn/top5_k5'] <= 100


@pytest.mark.parametrize('batch_size', [1, 7, 100])
def test_repeated_and_shuffled_samples_count_once(batch_size):
    samples = make_samples()
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).tolist()
    repeated = [samples[i] for i in [*order, *order[:9], 0, 0, 0, BANK, BANK]]
    assert evaluate(repeated, batch_size) == pytest.approx(expected_metrics(samples))


def test_query_chunks(monkeypatch):
    monkeypatch.setattr('ibot_mm.evaluation.knn_metric.QUERY_CHUNK', 4)
    samples = make_samples()
    assert evaluate(samples) == pytest.approx(expected_metrics(samples))


def test_float16_storage():
    samples = make_samples()
    assert evaluate(samples, dtype='float16') == pytest.approx(expected_metrics(samples))


def test_second_evaluation_starts_afresh():
    metric = KNNAccuracy(ks=KS)
    for samples in (make_samples(), make_samples(bank=30)):
        metric.process(None, [sample.to_dict() for sample in samples])
        assert metric.evaluate(len(samples)) == pytest.approx(expected_metrics(samples))


def test_prefix_and_feature_key():
    samples = make_samples()
    for sample in samples:
        sample.set_field(sample.pop('feature'), 'embedding')
    metrics = evaluate(samples, feature_key='embedding', prefix='teacher')
    assert set(metrics) == {f'teacher/top{top}_k{k}' for top in (1, 5) for k in KS}


def test_k_above_bank_uses_all_and_warns_once(caplog, monkeypatch):
    samples = make_samples()
    monkeypatch.setattr(
        'ibot_mm.evaluation.knn_metric.print_log',
        lambda message, logger, level: logging.getLogger().log(level, message),
    )
    metric = KNNAccuracy(ks=(5, 200))
    for _ in range(2):
        metric.process(None, [sample.to_dict() for sample in samples])
        metrics = metric.evaluate(len(samples))
    expected = expected_metrics(samples, (5, BANK))
    assert metrics['knn/top1_k200'] == pytest.approx(expected[f'knn/top1_k{BANK}'])
    assert metrics['knn/top1_k5'] == pytest.approx(expected['knn/top1_k5'])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f'holds {BANK} samples' in record.message
    assert '[200]' in record.message


def main(folder: Path) -> None:
    """Evaluate several distributions of the same samples over the processes."""
    dist.init_process_group('gloo')
    rank, world_size = dist.get_rank(), dist.get_world_size()
    samples = make_samples()
    padded = DefaultSampler(samples, shuffle=True, seed=0)
    uneven = DefaultSampler(samples, shuffle=False, round_up=False)
    assert len(padded) * world_size == len(samples) + 1
    parts = {
        'padded': list(padded),
        'uneven': list(uneven),
        'bank here, queries there': [
            index for index in range(len(samples)) if (index < BANK) == (rank == 0)
        ],
        'all in one': list(range(len(samples))) if rank == 1 else [],
        'all in both': list(range(len(samples))),
    }
    metrics = {name: evaluate([samples[i] for i in part]) for name, part in parts.items()}
    torch.save(metrics, folder / f'metrics_{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(call_together, tmp_path):
    call_together(__file__, tmp_path)
    expected = expected_metrics(make_samples())
    for rank in range(2):
        results = torch.load(tmp_path / f'metrics_{rank}.pth')
        assert len(results) == 5
        for name, metrics in results.items():
            assert metrics == pytest.approx(expected), name


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_feature_that_is_not_finite(value):
    samples = make_samples()
    samples[5].feature[2] = value
    samples[5].set_metainfo(dict(img_path='folder/cat.jpg'))
    with pytest.raises(FloatingPointError, match='folder/cat.jpg is not finite'):
        evaluate(samples)


@pytest.mark.parametrize(
    ('field', 'error', 'message'),
    [
        ('feature', KeyError, "no 'feature' among the fields"),
        ('knn_split', KeyError, 'ibot_mm.KNNSplits'),
        ('gt_label', ValueError, 'exactly one label'),
    ],
)
def test_missing_field(field, error, message):
    samples = make_samples()
    delattr(samples[0], field)
    with pytest.raises(error, match=message):
        evaluate(samples)


def test_several_labels():
    samples = make_samples()
    samples[0].set_gt_label([1, 2])
    with pytest.raises(ValueError, match='exactly one label'):
        evaluate(samples)


@pytest.mark.parametrize(('bank', 'queries'), [(0, 4), (4, 0)])
def test_missing_split(bank, queries):
    with pytest.raises(ValueError, match=f'got {bank} bank and {queries} query samples'):
        evaluate(make_samples(bank, queries))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(ks=()), 'ks must name'),
        (dict(ks=(10, 0)), 'ks must name'),
        (dict(temperature=0), 'temperature must be above 0'),
        (dict(dtype='bfloat16'), "'float32' or 'float16'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        KNNAccuracy(**arguments)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
