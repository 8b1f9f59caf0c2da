# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ibot_mm.create import create_backbone
from ibot_mm.frozen_network import FrozenNetwork
from ibot_mm.visualization import attention_frames, pick_frames, read_frames, write_video
from ibot_mm.visualization.video import STRIP, frames_per_second


@pytest.fixture
def video(tmp_path):
    """Five frames, each brighter than the one before."""
    path = tmp_path / 'frames.avi'
    frames = (np.full((32, 48, 3), (40 * i, 40 * i, 0), np.uint8) for i in range(5))
    return write_video(path, frames, 10)


def test_frames_come_back(video):
    frames = list(read_frames(video))
    assert [frame.size for frame in frames] == [(32, 48)] * 5
    for number, frame in enumerate(frames):
        assert frame.name == f'frames.avi, frame {number}'
        assert abs(frame.pixels[..., :2].mean() - 40 * number) < 4  # red and green: RGB
        assert frame.pixels[..., 2].mean() < 12
    assert frames_per_second(video) == 10
    assert [frame.name[-1] for frame in read_frames(video, every=2)] == ['0', '2', '4']
    assert [frame.name[-1] for frame in pick_frames(video, (3, 1))] == ['3', '1']


def test_wrong_videos(video, tmp_path):
    (tmp_path / 'text.mp4').write_text('not a video')
    with pytest.raises(ValueError, match='text.mp4 is not a video that OpenCV can read: convert'):
        list(read_frames(tmp_path / 'text.mp4'))
    with pytest.raises(FileNotFoundError, match='gone.mp4 is not there'):
        frames_per_second(tmp_path / 'gone.mp4')
    with pytest.raises(ValueError, match='frames 0 to 4: there is not a frame 7'):
        pick_frames(video, (0, 7))
    with pytest.raises(ValueError, match='every must be at least 1'):
        list(read_frames(video, 0))
    with pytest.raises(ValueError, match='written as .mp4, .avi or .gif'):
        write_video(tmp_path / 'x.mkv', [np.zeros((4, 4, 3), np.uint8)])
    with pytest.raises(ValueError, match='no frames to write'):
        write_video(tmp_path / 'x.mp4', [])


def test_attention_of_frames_into_files(video, tmp_path):
    torch.manual_seed(0)
    network = FrozenNetwork(create_backbone('vit_tiny_patch16', img_size=32), 'vit', origin='w.pth')
    frames = list(attention_frames(network, read_frames(video)))
    assert len(frames) == 5 and frames[0].shape == (STRIP + 32, 3 * 48, 3)
    assert np.abs(frames[4][STRIP:, :48, 1].astype(int) - 160).max() < 8  # the frame itself
    assert frames[0][:STRIP].min() < 200  # with text
    assert next(attention_frames(network, read_frames(video), mass=None)).shape[1] == 2 * 48
    for name in ('x/a.mp4', 'x/a.avi'):
        path = write_video(tmp_path / name, frames, 10)
        assert [frame.size for frame in read_frames(path)] == [(STRIP + 32, 144)] * 5
        assert frames_per_second(path) == 10
    animation = Image.open(write_video(tmp_path / 'a.gif', frames, 10))
    assert animation.n_frames == 5 and animation.info['duration'] == 100


def test_a_gif_where_the_codec_is_missing(tmp_path, monkeypatch):
    class Nothing:
        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def __init__(self, *_):
            pass

        def isOpened(self):
            return False

    monkeypatch.setattr(cv2, 'VideoWriter', Nothing)
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(3)]
    path = write_video(tmp_path / 'a.mp4', frames)
    assert path == tmp_path / 'a.gif' and Image.open(path).n_frames == 3
