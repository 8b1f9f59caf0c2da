# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from typing import Any

from mmengine import fileio


def read_content(results: dict, backend_args: dict[str, Any] | None = None) -> bytes:
    """Read the encoded image of a sample: from the store that holds it, or by its path.

    Args:
        results: With ``img_file``, which a data set of :mod:`ibot_mm.datasets.stores` gives and
            which is taken out, or with ``img_path``.
        backend_args: As mmengine's. Defaults to None.
    """
    file = results.pop('img_file', None)
    if file is not None:
        return file.read_bytes()
    return fileio.get(results['img_path'], backend_args=backend_args)
