# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .training_seed import TrainingSeedHook
from .finite_loss import FiniteLossHook
from .prototypes import FreezePrototypesHook
from .teacher import TeacherUpdateHook
from .temperature import TeacherTemperatureHook
from .training_log import TrainingLogHook

__all__ = [
    'TrainingSeedHook',
    'FiniteLossHook',
    'FreezePrototypesHook',
    'TeacherTemperatureHook',
    'TeacherUpdateHook',
    'TrainingLogHook',
]
