# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .bad_steps import SkipBadStepsHook
from .best_head import KeepBestHeadHook
from .channel_check import ChannelCheckHook
from .check_classes import CheckClassesHook
from .compare_with_start import CompareWithStartHook
from .deferred_log import DeferredLogHook
from .finite_loss import FiniteLossHook
from .freezing import FreezePatchEmbeddingHook, FreezePrototypesHook
from .online_probe import OnlineProbeHook
from .progress_bar import ProgressBarHook
from .skipped_images import SkippedImagesHook
from .teacher import TeacherUpdateHook
from .temperature import TeacherTemperatureHook
from .training_log import TrainingLogHook
from .training_seed import TrainingSeedHook

__all__ = [
    'ChannelCheckHook',
    'CheckClassesHook',
    'CompareWithStartHook',
    'DeferredLogHook',
    'TrainingSeedHook',
    'FiniteLossHook',
    'FreezePatchEmbeddingHook',
    'FreezePrototypesHook',
    'OnlineProbeHook',
    'KeepBestHeadHook',
    'ProgressBarHook',
    'SkipBadStepsHook',
    'SkippedImagesHook',
    'TeacherTemperatureHook',
    'TeacherUpdateHook',
    'TrainingLogHook',
]
