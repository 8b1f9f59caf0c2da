# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Registries of scope ``ibot_mm``, children of mmengine's root registries.

Every component is reachable from any mm config as ``type='ibot_mm.Name'``: mmengine imports this
module by its name when it meets the scope, and each registry imports the package in
``locations`` when it is first searched.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import WEIGHT_INITIALIZERS as MMENGINE_WEIGHT_INITIALIZERS
from mmengine.registry import Registry
from mmpretrain.registry import BATCH_AUGMENTS as MMPRETRAIN_BATCH_AUGMENTS

from .compatibility import honor_init_cfg, honor_switched_off_hooks
from .foreign_errors import explain_layer_decay

SCOPE = 'ibot_mm'


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope=SCOPE, locations=[location])


MODELS = _child('model', MMENGINE_MODELS, 'ibot_mm.models')
BATCH_AUGMENTS = _child('batch augment', MMPRETRAIN_BATCH_AUGMENTS, 'ibot_mm.models')

DATASETS = _child('dataset', MMENGINE_DATASETS, 'ibot_mm.datasets')
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS, 'ibot_mm.datasets')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'ibot_mm.datasets')
FUNCTIONS = _child('function', MMENGINE_FUNCTIONS, 'ibot_mm.datasets')

HOOKS = _child('hook', MMENGINE_HOOKS, 'ibot_mm.engine')
LOOPS = _child('loop', MMENGINE_LOOPS, 'ibot_mm.engine')
MODEL_WRAPPERS = _child('model wrapper', MMENGINE_MODEL_WRAPPERS, 'ibot_mm.engine')
OPTIMIZERS = _child('optimizer', MMENGINE_OPTIMIZERS, 'ibot_mm.engine')
OPTIM_WRAPPERS = _child('optim wrapper', MMENGINE_OPTIM_WRAPPERS, 'ibot_mm.engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optim wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, 'ibot_mm.engine'
)
PARAM_SCHEDULERS = _child('parameter scheduler', MMENGINE_PARAM_SCHEDULERS, 'ibot_mm.engine')

METRICS = _child('metric', MMENGINE_METRICS, 'ibot_mm.evaluation')

WEIGHT_INITIALIZERS = _child(
    'weight initializer', MMENGINE_WEIGHT_INITIALIZERS, 'ibot_mm.checkpoint'
)

honor_init_cfg()
honor_switched_off_hooks()
explain_layer_decay()
