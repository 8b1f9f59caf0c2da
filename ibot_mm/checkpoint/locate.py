# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Where checkpoints lie: files, folders, addresses, models of the mm packages."""

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.parse import unquote, urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.hub import get_config
from torch.hub import download_url_to_file

# Of a folder, the first that is there.
FILES = (
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.bin',
    '.metadata',  # of torch.distributed.checkpoint
)
DEEPSPEED = 'mp_rank_00_model_states.pt'


class CheckpointError(ValueError):
    """Weights that cannot be read or do not fit; says which file, why, and the way out."""


def find_file(location: str | Path) -> Path:
    """Find the local file that a location means, and download it if need be.

    Args:
        location: File, folder, ``http(s)://`` address or ``package::model``, see
            :class:`Checkpoint`.

    Returns:
        A file, or the index of a checkpoint in several.

    Raises:
        CheckpointError: If there is none.
    """
    text = str(location)
    if re.match(r'\w+::', text):
        text = _address_of_model(text)
    if text.startswith(('http://', 'https://')):
        return _download(text)
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        return _file_of_folder(path)
    if '://' in text:
        raise CheckpointError(f'{text}: only http:// and https:// are read; download it yourself.')
    raise CheckpointError(f'The checkpoint {path} is not there (seen from {Path.cwd()}).')


def _file_of_folder(folder: Path) -> Path:
    """Of Hugging Face, OpenCLIP, torch.distributed.checkpoint or DeepSpeed."""
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    inside = folder
    if (folder / 'latest').is_file():  # DeepSpeed's name of its newest folder
        inside = folder / (folder / 'latest').read_text().strip()
    if list(inside.glob('zero_pp_rank_*_model_states.pt')):
        raise CheckpointError(
            f'{folder} holds the slices of DeepSpeed, stage 3 of ZeRO: join them by its '
            '`python zero_to_fp32.py . weights`, which lies in that folder, and name the result.'
        )
    if (inside / DEEPSPEED).is_file():
        return inside / DEEPSPEED
    if parts := sorted(file.name for file in folder.glob('*-of-*')):
        raise CheckpointError(
            f'The folder {folder} holds parts of a checkpoint, such as {parts[0]}, and not their '
            'index, which says what is where: get the file that ends in .index.json too.'
        )
    raise CheckpointError(f'The folder {folder} holds none of {", ".join(FILES)}: name the file.')


def _address_of_model(name: str) -> str:
    if find_spec(name.split('::')[0]) is None:  # mmengine would install it
        raise CheckpointError(f'{name}: the package {name.split("::")[0]} is not installed.')
    config = name if name.endswith('.py') else f'{name}.py'
    try:
        return get_config(config, pretrained=True).model_path
    except (AssertionError, AttributeError):
        raise CheckpointError(f'{name} is a config without published weights.') from None
    except Exception as error:  # mmengine has no errors of its own for this
        raise CheckpointError(f'{name} is not a model of its package: {error}') from error


def _download(address: str) -> Path:
    """Return the file of an address, kept in torch's cache.

    A name that ends in a hash, as those of torch and mm do, is shared with their own loaders. Other
    names, such as ``model.safetensors``, are not unique: they get a folder for each address.
    """
    name = unquote(Path(urlparse(address).path).name)
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    if not re.search(r'-[a-f0-9]{8,}\.\w+$', name):
        folder /= hashlib.sha256(address.encode()).hexdigest()[:12]
    file = folder / name
    error = None
    for turn in (True, False):  # rank 0 first, the others find its file or get their own
        if turn == (get_rank() == 0) and not file.is_file():
            error = _fetch(address, file)
        if turn:
            barrier()
    if error:
        raise CheckpointError(
            f'{address} could not be downloaded: {error}. Download it by other means and give its '
            'path.'
        )
    return file


def _fetch(address: str, file: Path) -> Exception | None:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        download_url_to_file(address, str(file), progress=get_rank() == 0)
    except (URLError, OSError, RuntimeError) as error:
        return error
    return None
