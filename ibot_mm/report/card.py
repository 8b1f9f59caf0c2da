# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The model card of an export: ``README.md`` with metadata, as Hugging Face shows it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ibot_mm.checkpoint import Checkpoint, Export, check_output, write_export
from ibot_mm.functional.image_statistics import MEAN, STD
from ibot_mm.version import __version__

from .origin import (
    MOST_KEYS,
    UNKNOWN,
    config_delta,
    is_ibot,
    model_of,
    published_entry,
    training_facts,
)
from .results import find_results, table_of

CARD, PROCESSOR = 'README.md', 'preprocessor_config.json'
TEMPLATE = Path(__file__).with_name('card.md')
METRICS = dict(top1='accuracy')  # names of Hugging Face's, where they differ
DATASETS = {'ImageNet-1k': 'ILSVRC/imagenet-1k'}


def write_export_and_card(
    path: str | Path,
    checkpoint: Checkpoint,
    export: Export,
    config: str | None = None,
    network: str = 'teacher',
    license: str | None = None,
    datasets: Sequence[str] = (),
    overwrite: bool = False,
) -> str:
    """Write weights for another library; for Hugging Face with a model card beside them.

    The card says what the checkpoint, and evaluations in its folder, tell. What they do not tell is
    said to be unknown. Where the training's normalization is known, ``preprocessor_config.json``
    has it, with the published test view.

    Args:
        path, export, config, overwrite: As of :func:`~ibot_mm.checkpoint.write_export`.
        checkpoint: What was exported.
        network: 'teacher' or 'student'. Defaults to 'teacher'.
        license: Of the weights, as Hugging Face calls it, such as 'apache-2.0'. Defaults to None,
            unknown.
        datasets: Names of the training's images on Hugging Face. Defaults to none.

    Returns:
        What was written and how it is used.

    Raises:
        CheckpointError: If the library does not read such files, or something is there already.
        ValueError: If license or datasets are given for a library without model cards.
    """
    if export.target.suffixes:
        if license or datasets:
            raise ValueError('license and datasets are of the model card, which huggingface has')
        return write_export(path, export, config, overwrite)
    folder = Path(path)
    for name in (CARD, PROCESSOR):
        check_output(folder / name, (), overwrite)
    written = write_export(folder, export, config, overwrite)
    processor, is_told = _processor(checkpoint, export.target.options)
    if is_told:
        (folder / PROCESSOR).write_text(json.dumps(processor, indent=2) + '\n')
    card = _render(folder, checkpoint, export, network, license, datasets, processor, is_told)
    (folder / CARD).write_text(card)
    return (
        f'{folder / CARD}: the model card, license of the weights {license or UNKNOWN}\n{written}'
    )


def _render(
    folder: Path,
    checkpoint: Checkpoint,
    export: Export,
    network: str,
    license: str | None,
    datasets: Sequence[str],
    processor: dict[str, Any] | None,
    is_told: bool,
) -> str:
    import jinja2

    options, entry = export.target.options, published_entry(checkpoint)
    if not datasets and entry:
        trained = entry['Metadata']['Training Data']
        datasets = [DATASETS[trained]] if trained in DATASETS else []
    results = _results_of(checkpoint, network)
    metrics = [METRICS.get(row[1], row[1]) for found in results for row in table_of(found)[1]]
    ours = is_ibot(checkpoint) or bool(entry)
    metadata = dict(
        license=license or UNKNOWN,
        library_name='transformers',
        pipeline_tag='image-feature-extraction',
        tags=[*(['ibot'] if ours else []), 'self-supervised-learning', 'vision-transformer'],
        datasets=list(datasets),
        metrics=list(dict.fromkeys(metrics)),
    )
    delta = config_delta(checkpoint)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters['cell'] = lambda value: str(value).replace('|', '\\|')
    return environment.from_string(TEMPLATE.read_text()).render(
        metadata=yaml.safe_dump({k: v for k, v in metadata.items() if v}, sort_keys=False),
        name=folder.resolve().name,
        folder=str(folder),
        source=Path(checkpoint.location).name,
        network=network,
        is_ibot=is_ibot(checkpoint),
        entry=entry,
        options=options,
        registers=options.get('num_register_tokens', 0),
        usage=export.target.usage.replace('FILE', repr(str(folder))),
        processor=processor,
        is_told=is_told,
        facts=training_facts(checkpoint),
        delta=delta,
        listed=delta is not None and len(delta[1]) <= MOST_KEYS,
        evaluations=[(found, *table_of(found)) for found in results],
        notes=export.target.notes(),
        license=license,
        version=__version__,
    )


def _processor(
    checkpoint: Checkpoint, options: dict[str, Any]
) -> tuple[dict[str, Any] | None, bool]:
    """Return options of transformers' BitImageProcessor, and whether the checkpoint tells them.

    They are the published test view, with the statistics of the training or else of ImageNet.
    """
    if options['num_channels'] != 3:
        return None, False
    told = model_of(checkpoint).get('data_preprocessor') or {}
    is_told = is_ibot(checkpoint) and {'mean', 'std'} <= set(told) and bool(told.get('to_rgb'))
    mean, std = (told['mean'], told['std']) if is_told else (MEAN, STD)
    size = options['image_size']
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    view = dict(
        image_processor_type='BitImageProcessor',
        do_convert_rgb=True,
        size=dict(shortest_edge=max(height, width) * 8 // 7),
        resample=3,  # bicubic
        crop_size=dict(height=height, width=width),
        image_mean=[round(value / 255, 6) for value in mean],
        image_std=[round(value / 255, 6) for value in std],
    )
    return view, is_told


def _results_of(checkpoint: Checkpoint, network: str) -> list[dict[str, Any]]:
    """Return the evaluations of this checkpoint that lie in its folder."""
    file = Path(checkpoint.location)
    if not (file.is_file() or (file / '.metadata').is_file()):  # or in shards
        return []
    return [
        results
        for results in find_results(file.parent).values()
        if Path(results['checkpoint']).parts[-2:] in (file.parts[-2:], file.resolve().parts[-2:])
        and results['request'].get('network', network) == network
    ]
