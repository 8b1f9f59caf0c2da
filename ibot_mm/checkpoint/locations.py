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

from .errors import CheckpointError

# Of a folder, the first that is there.
FILES = (
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
)


def find_file(location: str | Path) -> Path:
    """The local file that a location means; downloads it if need be.

    Args:
        location: File, folder, ``http(s)://`` address or ``package::model``, see
            :func:`load_checkpoint_file`.

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
        for name in FILES:
            if (path / name).is_file():
                return path / name
        raise CheckpointError(f'The folder {path} holds none of {", ".join(FILES)}: name the file.')
    if '://' in text:
        raise CheckpointError(f'{text}: only http:// and https:// are read; download it yourself.')
    raise CheckpointError(f'The checkpoint {path} is not there (seen from {Path.cwd()}).')


def _address_of_model(name: str) -> str:
    if find_spec(name.split('::')[0]) is None:  # mmengine would install it
        raise CheckpointError(f'{name}: the package {name.split("::")[0]} is not installed.')
    config = name if name.endswith('.py') else f'{name}.py'
    try:
        return get_config(config, pretrained=True).model_path
    except (AssertionError, AttributeError):
        raise CheckpointError(f'{name} is a config without published weights.') from None
    except Exception as error:  # mmengine has no errors of its own for this
        raise CheckpointError(f'{name} is no model of its package: {error}') from error


def _download(address: str) -> Path:
    """The file of an address, kept in torch's cache.

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
