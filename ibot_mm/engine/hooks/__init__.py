# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .alarm import AlarmHook
from .bad_steps import SkipBadStepsHook
from .best_head import KeepBestHeadHook
from .channel_check import ChannelCheckHook
from .check_classes import CheckClassesHook
from .checkpoint import CheckpointHook
from .compare_with_start import CompareWithStartHook
from .finite_loss import FiniteLossHook
from .freezing import FreezePatchEmbeddingHook, FreezePrototypesHook
from .image_sizes import ImageSizeHook
from .log_history import LogHistoryHook
from .monitor import MonitorHook
from .online_probe import OnlineProbeHook
from .progress_bar import ProgressBarHook
from .runtime_info import DeferredRuntimeInfoHook
from .same_data import SameDataHook
from .skipped_images import SkippedImagesHook
from .teacher import TeacherUpdateHook
from .temperature import TeacherTemperatureHook
from .training_log import TrainingLogHook
from .training_seed import TrainingSeedHook
from .uniform_targets import UniformTargetsHook
from .whitening import WhitenPatchesHook

__all__ = [
    'AlarmHook',
    'ChannelCheckHook',
    'CheckpointHook',
    'CheckClassesHook',
    'CompareWithStartHook',
    'DeferredRuntimeInfoHook',
    'TrainingSeedHook',
    'FiniteLossHook',
    'FreezePatchEmbeddingHook',
    'FreezePrototypesHook',
    'ImageSizeHook',
    'LogHistoryHook',
    'MonitorHook',
    'OnlineProbeHook',
    'KeepBestHeadHook',
    'ProgressBarHook',
    'SkipBadStepsHook',
    'SameDataHook',
    'SkippedImagesHook',
    'TeacherTemperatureHook',
    'TeacherUpdateHook',
    'TrainingLogHook',
    'UniformTargetsHook',
    'WhitenPatchesHook',
]
