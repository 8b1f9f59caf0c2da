# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What the package needs of the OpenMMLab packages around it.

Upstream's distributions (``mmengine``, ``mmcv``, ``mmpretrain``) and OneDL's (``onedl-mmengine``,
...) own the same import names, so neither can be a hard requirement; import names are checked here.
"""

import runpy
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from packaging.version import Version

MINIMUM_VERSIONS = {'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmpretrain': '1.2.0'}

ADVICE = """Install one of the two families, not both, since they own the same import names:
    pip install 'ibot-mm[onedl]'        OneDL's builds, the tested ones
    pip install 'ibot-mm[openmmlab]'    upstream's"""


def installed_version(package: str) -> str | None:
    """Read a package's version from its ``version.py``, without the seconds that its import takes.

    Args:
        package: Import name, such as ``'mmpretrain'``.

    Returns:
        The version, or None if the package is not installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return runpy.run_path(str(Path(spec.origin).with_name('version.py')))['__version__']


def check_environment(minimum_versions: Mapping[str, str] = MINIMUM_VERSIONS) -> None:
    """Check that the mm packages are present and recent enough.

    Args:
        minimum_versions: Import names and the lowest versions that will do.

    Raises:
        ImportError: If a package is missing or too old. The message names each one and says what
            to install.
    """
    faults = []
    for package, minimum in minimum_versions.items():
        version = installed_version(package)
        if version is None:
            faults.append(f'{package} >= {minimum} is not installed')
        elif Version(version) < Version(minimum):
            faults.append(f'{package} {version} is older than {minimum}')
    if faults:
        raise ImportError(f'ibot_mm cannot work here: {", ".join(faults)}.\n{ADVICE}')


def enable_config_inheritance() -> None:
    """Let configs inherit from this package's, as in ``_base_ = 'ibot_mm::pretrain/x.py'``.

    mmengine accepts a prefix only if it is in its table of packages.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('ibot_mm', 'ibot_mm')
