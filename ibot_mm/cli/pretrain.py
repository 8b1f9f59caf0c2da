# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from pathlib import Path

from .application import advice, read_options


def pretrain(
    images: str,
    /,
    *options: str,
    out: Path,
    model: str = 'vits16',
    weights: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    config: Path | None = None,
    devices: int = 1,
    slurm: str | None = None,
    resume: bool = False,
    plan_only: bool = False,
) -> None:
    """Pre-train on a folder or a store of images.

    Recipe, batch, workers, precision and epochs are chosen for the images and the machine, and
    said with their reasons. The whole config is written to OUT/config.py.

    Example: `ibot-mm pretrain my/images --out runs/first --model vits16`

    Args:
        images: Folder, nested as deep as it may be, or store; labels are not needed.
        options: KEY=VALUE, changes of the config, such as model.backbone.drop_path_rate=0.2
        out: Folder of checkpoints and logs.
        model: vits16, vitb16, vitl16, swint, or a Vision Transformer of timm by its name.
        weights: Checkpoint of any known format to start from.
        epochs: Default: by the number of images.
        batch_size: Images in one process. Default: what fits the device.
        config: A config of your own in place of model and recipe.
        devices: Processes on this machine, or GPUs of a Slurm job.
        slurm: Partition of a Slurm cluster.
        resume: Go on with the training in OUT.
        plan_only: Print the choices and write the config, and no more.
    """
    from ibot_mm import pretraining

    with advice():
        path = pretraining.prepare(
            images, out, model, weights, epochs, batch_size, config, read_options(options),
            devices, resume,
        )  # fmt: skip
    tool = pretraining.TOOLS / 'train.py'
    print(f'The same training: python {tool} {path} --work-dir {out}')
    if not plan_only:
        pretraining.run(path, devices, slurm)
