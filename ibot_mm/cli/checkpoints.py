# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from pathlib import Path
from typing import Literal

from .application import advice
from .measure import Network, Words


def export(
    checkpoint: str,
    out: Path,
    /,
    *,
    to: Literal['timm', 'huggingface', 'mmpretrain', 'published', 'onnx'],
    network: Network = 'teacher',
    license: str | None = None,
    datasets: Words = [],
    overwrite: bool = False,
) -> None:
    """Give a backbone to another library; for huggingface with a model card.

    Example: `ibot-mm export runs/first/epoch_316.pth my_vits16 --to huggingface`

    Args:
        checkpoint: Weights of any known format.
        out: File to write, or folder for huggingface.
        to: Library; published is the original code's, onnx a graph.
        network: Where the checkpoint has both.
        license: Of the weights, for the model card, such as apache-2.0. Default: unknown
        datasets: Names of the training's images on Hugging Face, for the model card.
        overwrite: Replace what is there.
    """
    from ibot_mm.checkpoint import (
        Checkpoint,
        check_output,
        export_checkpoint,
        rebuild_backbone,
    )
    from ibot_mm.report import write_export_and_card

    with advice():
        if to == 'onnx':
            from ibot_mm.models.graph_export import export_onnx

            check_output(out, ('.onnx',), overwrite)
            backbone, report = rebuild_backbone(checkpoint, network=network)
            print(report)
            export_onnx(backbone, out)
            print(out)
            return
        opened = Checkpoint.open(checkpoint)
        content, config, loaded = export_checkpoint(opened, to, network=network)
        print(loaded or '')
        print(
            write_export_and_card(
                out, opened, content, config, network, license, datasets, overwrite
            )
        )


def convert(
    checkpoint: str, out: Path, /, *, network: Network = 'teacher', overwrite: bool = False
) -> None:
    """Convert weights of any known format to this project's, with the config of the backbone.

    Example: `ibot-mm convert dinov2_vitb14_pretrain.pth dinov2_vitb14.pth`

    Args:
        checkpoint: File, folder, address or package::model.
        out: .pth or .safetensors.
        network: Where the checkpoint has both.
        overwrite: Replace what is there.
    """
    from ibot_mm.checkpoint import backbone_config, rebuild_backbone, write_weights

    with advice():
        backbone, report = rebuild_backbone(checkpoint, network=network)
        config = backbone_config(backbone)
        path = write_weights(out, backbone.state_dict(), dict(cfg=config), overwrite)
    print(f'{report}\n{path}, for\n{config}')


def list_known(what: Literal['models', 'checkpoints', 'protocols'], /) -> None:
    """List what can be named.

    Example: `ibot-mm list protocols`

    Args:
        what: Models to pre-train, formats of checkpoints, or protocols of evaluation.
    """
    for name, text in _known(what):
        print(f'{name:<24}{text}')


def _known(what: str) -> list[tuple[str, str]]:
    if what == 'models':
        from ibot_mm.recipe import MODELS

        rows = [(name, f'configs/pretrain/{config}.py') for name, config in MODELS.items()]
        return [*rows, ('any other', "a Vision Transformer of timm, timm.list_models('vit*')")]
    if what == 'checkpoints':
        from ibot_mm.checkpoint.formats import FORMATS

        return [(layout.name, layout.title) for layout in FORMATS]
    from ibot_mm.evaluation import PROTOCOLS, TASKS

    known = {**PROTOCOLS, **TASKS}
    return [(name, _first_line(function)) for name, function in known.items()]


def _first_line(function: object) -> str:
    return (function.__doc__ or '').strip().splitlines()[0]
