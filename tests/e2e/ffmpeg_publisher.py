"""Publishes a synthetic picture and tone with ffmpeg's `whip` muxer, by PyAV: `python ffmpeg_publisher.py URL SECONDS`.

A process of its own, because the muxer holds the interpreter lock while it connects and writes.
"""

from __future__ import annotations

import sys
import time
from fractions import Fraction

import av
import numpy as np

RATE, SOUND, CHUNK = 25, 48000, 960  # frames/s, samples/s, samples in 20 ms
VIDEO_OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline", "g": "50", "bf": "0"}


def picture(number: int) -> av.VideoFrame:
    """A square that moves."""
    image = np.full((360, 640, 3), 60, np.uint8)
    x = 8 * number % 540
    image[120:220, x : x + 100] = (30, 180, 220)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = number, Fraction(1, RATE)
    return frame


def tone(number: int) -> av.AudioFrame:
    """20 ms of 440 Hz."""
    at = np.arange(number * CHUNK, (number + 1) * CHUNK)
    samples = (8000 * np.sin(2 * np.pi * 440 * at / SOUND)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(samples, 2)[None], format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = SOUND, number * CHUNK, Fraction(1, SOUND)
    return frame


def main(url: str, seconds: float) -> None:
    """Connect and send in real time."""
    with av.open(url, "w", format="whip") as output:
        sound = output.add_stream("libopus", rate=SOUND, layout="stereo")
        video = output.add_stream("libx264", rate=RATE, options=VIDEO_OPTIONS)
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        output.start_encoding()
        print("publishing", flush=True)
        begun = time.monotonic()
        for k in range(int(50 * seconds)):
            output.mux(sound.encode(tone(k)))
            if k % 2 == 0:
                output.mux(video.encode(picture(k // 2)))
            time.sleep(max(0.0, begun + k / 50 - time.monotonic()))  # the pace of a live source


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
