"""Publishes a synthetic picture and tone with ffmpeg's `whip` muxer.

`python ffmpeg_publisher.py URL SECONDS FOLDER [PROFILE]`; the profile is baseline, or high.
PyAV brings the muxer along. A process of its own, because it holds the interpreter lock while it connects and writes.
The certificate is given: ffmpeg with GnuTLS makes one on P-224, a curve that OpenSSL 4 has no more.
"""

from __future__ import annotations

import datetime
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

RATE, SOUND, CHUNK = 25, 48000, 960  # frames/s, samples/s, samples in 20 ms
VIDEO_OPTIONS = {"g": "50", "bf": "0"}  # those of README.md's line
PRESETS = {
    "baseline": "ultrafast",
    "high": "veryfast",
}  # of each profile; ultrafast leaves out what makes a stream High


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


def certificate(folder: Path) -> dict[str, str]:
    """The muxer's options for a certificate on P-256, as ffmpeg with OpenSSL makes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, today = x509.Name([]), datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, today, today + datetime.timedelta(7))
    files = {"cert_file": folder / "ffmpeg.crt", "key_file": folder / "ffmpeg.key"}
    files["cert_file"].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    files["key_file"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {option: str(file) for option, file in files.items()}


def main(url: str, seconds: float, folder: Path, profile: str = "baseline") -> None:
    """Connect and send in real time."""
    with av.open(url, "w", format="whip", options=certificate(folder)) as output:
        sound = output.add_stream("libopus", rate=SOUND, layout="stereo")
        video = output.add_stream(
            "libx264", rate=RATE, options=VIDEO_OPTIONS | {"profile": profile, "preset": PRESETS[profile]}
        )
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
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
