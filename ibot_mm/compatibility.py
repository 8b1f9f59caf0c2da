# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What the package needs of the OpenMMLab packages around it.

Upstream's distributions (``mmengine``, ``mmcv``, ``mmpretrain``) and OneDL's (``onedl-mmengine``,
...) own the same import names, so neither can be a hard requirement; import names are checked here.
"""

import runpy
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from functools import wraps
from importlib import import_module, metadata
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

from packaging.version import Version

from .foreign_errors import LAYER_DECAY_ADVICE, OUT_TYPE_ADVICE, STOCK_LAYER_DECAY

if TYPE_CHECKING:
    from mmengine.config import Config

MINIMUM_VERSIONS = {
    'torch': '2.6',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmpretrain': '1.2.0',
}

ADVICE = """Install one of the two families, not both, since they own the same import names:
    pip install 'ibot-mm[onedl]'        OneDL's builds, the tested ones
    pip install 'ibot-mm[openmmlab]'    upstream's
docs/install.md has the commands for detection and segmentation."""

DOWNSTREAM = ('mmdet', 'mmseg')

DOWNSTREAM_ADVICE = """Install detection and segmentation by one of
    make setup-full                                       the tested environment
    pip install onedl-mmdetection onedl-mmsegmentation    OneDL's builds
    pip install mmdet mmsegmentation ftfy regex           upstream's"""

OPERATORS_ADVICE = """Compile them, once, some ten minutes, by `make setup-full` or by
    pip install ninja psutil wheel 'setuptools>=80,<82'
    pip install --no-deps --no-build-isolation --no-cache-dir --force-reinstall onedl-mmcv
(upstream's: `pip uninstall mmcv-lite`, 'setuptools<80' and 'mmcv>=2.1,<2.2')."""

# Those that mmengine's Runner adds itself.
OWN_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


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
    """Check that torch and the mm packages are present and recent enough.

    Args:
        minimum_versions: Import names and the lowest versions that will do.

    Raises:
        ImportError: If a package is missing or too old, or transformers too new for mmpretrain. The
            message names each one and says what to install.
    """
    faults = []
    for package, minimum in minimum_versions.items():
        version = installed_version(package)
        if version is None:
            faults.append(f'{package} >= {minimum} is not installed')
        elif Version(version) < Version(minimum):
            faults.append(f'{package} {version} is older than {minimum}')
    too_new = _first_transformers_that_break_mmpretrain()
    if _is_distribution('transformers') and Version(metadata.version('transformers')) >= too_new:
        faults.append(
            f'mmpretrain cannot be imported beside transformers {too_new} and later '
            f'(pip install "transformers<{too_new}")'
        )
    if faults:
        raise ImportError(f'ibot_mm cannot work here: {", ".join(faults)}.\n{ADVICE}')


def enable_config_inheritance() -> None:
    """Let configs inherit through a package, as in ``_base_ = 'ibot_mm::pretrain/x.py'``.

    mmengine accepts a prefix only if it is in its table of packages, and looks for the distribution
    that the table names. For ``mmseg::`` that is upstream's ``mmsegmentation``; where it is not
    installed and the package is, as with OneDL's build, the table gets the import name, by which
    mmengine finds a package too.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    MODULE2PACKAGE.setdefault('ibot_mm', 'ibot_mm')
    for package, distribution in MODULE2PACKAGE.items():
        if package != distribution and find_spec(package) and not _is_distribution(distribution):
            MODULE2PACKAGE[package] = package


def honor_init_cfg() -> None:
    """Let ``init_cfg`` of every backbone name ``ibot_mm.Pretrained``.

    The Swin of mmdet and mmseg and the ViTs of mmseg take any ``init_cfg`` for a file to be read in
    their own way, and keep random weights without a word where it has other names. A backbone
    whose class initializes itself gets the weights after that instead.
    """
    from mmengine.model import BaseModule

    original = BaseModule.__init__
    if hasattr(original, '__wrapped__'):
        return

    @wraps(original)
    def construct(self: Any, init_cfg: dict | list | None = None) -> None:
        original(self, init_cfg)
        own_way = type(self).init_weights is not BaseModule.init_weights
        if own_way and _names_ours(self.init_cfg):
            self.init_weights = MethodType(_initialize_and_fill, self)

    BaseModule.__init__ = construct


def honor_switched_off_hooks() -> None:
    """Let ``default_hooks=dict(name=None)`` switch off any hook, in the tools of all mm packages.

    mmengine takes it for the hooks that it would add itself, and asserts at all others.
    """
    from mmengine.runner import Runner

    original = Runner.register_default_hooks
    if hasattr(original, '__wrapped__'):
        return

    @wraps(original)
    def register(self: Any, hooks: dict[str, Any] | None = None) -> None:
        given = hooks or {}
        original(self, {n: hook for n, hook in given.items() if hook is not None or n in OWN_HOOKS})

    Runner.register_default_hooks = register


def _names_ours(init_cfg: Any) -> bool:
    last = init_cfg[-1] if isinstance(init_cfg, list) and init_cfg else init_cfg
    named = last.get('type') if isinstance(last, dict) else None
    return named == 'ibot_mm.Pretrained' or getattr(named, '__module__', '').startswith('ibot_mm.')


def _initialize_and_fill(module: Any) -> None:
    from mmengine.registry import WEIGHT_INITIALIZERS

    init_cfg = module.init_cfg
    *before, ours = init_cfg if isinstance(init_cfg, list) else [init_cfg]
    module.init_cfg = before or None
    type(module).init_weights(module)
    module.is_init = True
    module.init_cfg = init_cfg
    WEIGHT_INITIALIZERS.build(ours)(module)


def import_mmpretrain() -> None:
    """Import mmpretrain without the lines that a user can do nothing about.

    It prints that an optional package of OneDL's is missing, and mmcv warns that it has no compiled
    operators; what needs those says so itself (:func:`check_downstream`).
    """
    printed = StringIO()
    with warnings.catch_warnings(), redirect_stdout(printed):
        warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformableAttention``')
        import_module('mmpretrain.datasets')
        import_module('mmpretrain.models')
    others = [line for line in printed.getvalue().splitlines() if line != 'Could not import OneDL']
    if others:
        print(*others, sep='\n')


def _first_transformers_that_break_mmpretrain() -> Version:
    """Upstream's imports what 4.52 took out, for the networks that need pycocotools, too."""
    upstream = _is_distribution('mmpretrain') and _is_distribution('pycocotools')
    return Version('4.52' if upstream else '5')


def _is_distribution(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def load_config(path: str | Path) -> 'Config':
    """Read a config, and check that what it needs of mmdet and mmseg is there.

    Args:
        path: The config file.

    Returns:
        The config.

    Raises:
        ImportError: If the config inherits from or uses mmdet or mmseg, and that package or mmcv's
            compiled operators are missing. The message says what to install.
        ValueError: If it combines what cannot work together, see :func:`check_combinations`.
    """
    from mmengine.config import Config

    try:
        cfg = Config.fromfile(path)
    except ModuleNotFoundError as error:
        missing = [package for package in DOWNSTREAM if package in str(error)]
        if not missing:
            raise
        raise _missing(path, missing[0]) from None
    check_combinations(cfg)
    check_downstream(cfg)
    import_mmpretrain()
    return cfg


def check_downstream(cfg: 'Config') -> None:
    """Check that the mm packages and operators that a config needs are there.

    Args:
        cfg: The config.

    Raises:
        ImportError: If mmdet, mmseg or mmcv's compiled operators are needed and missing. The
            message says what to install.
    """
    scope, content = cfg.get('default_scope'), str(cfg.to_dict())
    needed = [name for name in DOWNSTREAM if scope == name or f"'{name}." in content]
    for package in needed:
        if find_spec(package) is None:
            raise _missing(cfg.filename, package)
    if needed:
        import torch  # noqa: F401, the operators link to its libraries

        try:
            import_module('mmcv._ext')
        except ImportError as error:
            raise ImportError(
                f'{cfg.filename} needs {needed[0]}, which needs the compiled operators of mmcv; '
                f'they cannot be loaded: {error}.\n{OPERATORS_ADVICE}'
            ) from None


def check_combinations(cfg: 'Config') -> None:
    """Check that a backbone of this package is not combined with what cannot take it.

    Both faults come from other packages, late and in words that do not help: mmdet's and mmseg's
    layer-wise learning rate decay knows backbones by their class names and raises a bare
    NotImplementedError; a classifier's head that is given all tokens fails in the loss.

    Args:
        cfg: The config.

    Raises:
        ValueError: If it does. The message says what to use.
    """
    model = cfg.get('model') or {}
    backbone = model.get('backbone') or {}
    network = str(backbone.get('type'))
    if not network.startswith('ibot_mm.'):
        return
    scope, _, constructor = str(cfg.get('optim_wrapper', {}).get('constructor')).rpartition('.')
    if constructor in STOCK_LAYER_DECAY and scope in ('', *DOWNSTREAM):
        raise ValueError(
            f'{constructor} of {scope or cfg.get("default_scope")} does not know the layers of '
            f'{network}. {LAYER_DECAY_ADVICE}'
        )
    classifier = str(model.get('type')).endswith('ImageClassifier') and not model.get('neck')
    pools = network == 'ibot_mm.FrozenFeatures'  # gives one vector for each image
    if classifier and not pools and model.get('head') and backbone.get('out_type', 'raw') == 'raw':
        raise ValueError(f'{network} {OUT_TYPE_ADVICE}')


def _missing(path: str | Path, package: str) -> ImportError:
    return ImportError(f'{path} needs {package}, which is not installed.\n{DOWNSTREAM_ADVICE}')
