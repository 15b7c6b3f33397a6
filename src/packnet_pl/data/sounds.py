"""Synthesises sixteen kinds of short sounds at random, as small noisy spectrograms.

scipy is imported where a sound is drawn: a second that those who draw none do not pay.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIZE", "SOUNDS", "listen"]

SIZE = 24
"""Frequencies (height) and moments (width) of an image."""

_WINDOW = 2 * (SIZE - 1)
_HOP = _WINDOW // 2
_LENGTH = _WINDOW + (SIZE - 1) * _HOP
# Frequencies in cycles per sample; a sound keeps off both edges of the image, 0 and 0.5.
_LOW, _HIGH = 0.06, 0.44
# What is black and what is white, in decibels above the background's mean power density.
_BLACK, _WHITE = -9.0, 24.0

Floats = NDArray[np.float64]
Sound = Callable[[Floats, np.random.Generator], Floats]


def listen(name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns the spectrogram (uint8, 24 x 24, on a logarithmic scale) of a sound in noise.

    Low frequencies are at the bottom, and time goes from left to right.

    Args:
        name: One of :data:`SOUNDS`.
        rng: Where all that varies comes from.
    """
    time, length = rng.uniform(0.02, 0.35), rng.uniform(0.45, 0.63)
    first, num = round(time * _LENGTH), round(length * _LENGTH)
    sound = np.zeros(_LENGTH)
    sound[first : first + num] = SOUNDS[name](np.linspace(0, 1, num), rng)
    loudness = 10 ** (rng.uniform(-5.5, 8.5) / 20)
    return _image(loudness * sound + _background(rng))


def _background(rng: np.random.Generator) -> Floats:
    """Returns noise of unit variance, a little louder at the low or at the high frequencies."""
    from scipy.signal import lfilter

    colour = rng.uniform(-0.5, 0.5)
    white = rng.normal(0, np.sqrt(1 - colour**2), _LENGTH)
    noise: Floats = lfilter([1.0], [1.0, -colour], white)
    return noise


def _image(samples: Floats) -> NDArray[np.uint8]:
    from scipy.signal import spectrogram

    # One-sided density: unit variance is a mean of 2 over frequencies 0 to 0.5.
    _, _, power = spectrogram(samples, window="hann", nperseg=_WINDOW, noverlap=_WINDOW - _HOP, detrend=False)
    decibels = 10 * np.log10(np.maximum(power, 1e-9) / 2)
    pixels: NDArray[np.uint8] = np.rint(255 * np.clip((decibels - _BLACK) / (_WHITE - _BLACK), 0, 1)).astype(np.uint8)
    return pixels[::-1].copy()


def _oscillation(frequency: Floats, rng: np.random.Generator) -> Floats:
    """Returns a sine of the given frequency at each sample, from a random phase; its power is 1."""
    phase = 2 * np.pi * (np.cumsum(frequency) + rng.uniform())
    wave: Floats = np.sqrt(2) * np.sin(phase)
    return wave


def _ends(smallest: float, largest: float, rng: np.random.Generator) -> tuple[float, float]:
    """Returns two frequencies whose distance lies between the two given, the lower one first."""
    distance = rng.uniform(smallest, largest)
    low = rng.uniform(_LOW, _HIGH - distance)
    return low, low + distance


def _tone(t: Floats, rng: np.random.Generator) -> Floats:
    return _oscillation(np.full_like(t, rng.uniform(_LOW, _HIGH)), rng)


def _two_tones(t: Floats, rng: np.random.Generator) -> Floats:
    low, high = _ends(0.07, 0.3, rng)
    return _oscillation(np.full_like(t, low), rng) + _oscillation(np.full_like(t, high), rng)


def _harmonics(t: Floats, rng: np.random.Generator) -> Floats:
    base, num = rng.uniform(0.06, 0.095), int(rng.integers(3, 6))
    stack: Floats = np.sum([_oscillation(np.full_like(t, base * k), rng) for k in range(1, num + 1)], axis=0)
    return stack


def _rising_chirp(t: Floats, rng: np.random.Generator) -> Floats:
    low, high = _ends(0.07, 0.36, rng)
    return _oscillation(low + (high - low) * t, rng)


def _falling_chirp(t: Floats, rng: np.random.Generator) -> Floats:
    low, high = _ends(0.07, 0.36, rng)
    return _oscillation(high - (high - low) * t, rng)


def _up_down_sweep(t: Floats, rng: np.random.Generator) -> Floats:
    low, high = _ends(0.08, 0.34, rng)
    return _oscillation(low + (high - low) * _peak(t, rng), rng)


def _down_up_sweep(t: Floats, rng: np.random.Generator) -> Floats:
    low, high = _ends(0.08, 0.34, rng)
    return _oscillation(high - (high - low) * _peak(t, rng), rng)


def _peak(t: Floats, rng: np.random.Generator) -> Floats:
    """Returns straight lines from 0 up to 1 and down again, the top somewhere about the middle."""
    lines: Floats = np.interp(t, [0, rng.uniform(0.35, 0.65), 1], [0, 1, 0])
    return lines


def _rising_step(t: Floats, rng: np.random.Generator) -> Floats:
    low, high = _ends(0.07, 0.34, rng)
    return _oscillation(np.where(t < rng.uniform(0.35, 0.65), low, high), rng)


def _falling_step(t: Floats, rng: np.random.Generator) -> Floats:
    low, high = _ends(0.07, 0.34, rng)
    return _oscillation(np.where(t < rng.uniform(0.35, 0.65), high, low), rng)


def _vibrato(t: Floats, rng: np.random.Generator) -> Floats:
    depth = rng.uniform(0.03, 0.08)
    middle = rng.uniform(_LOW + depth, _HIGH - depth)
    turns, start = rng.uniform(2, 3.5), rng.uniform()
    return _oscillation(middle + depth * np.sin(2 * np.pi * (turns * t + start)), rng)


def _tremolo(t: Floats, rng: np.random.Generator) -> Floats:
    turns, start = rng.uniform(2.5, 4), rng.uniform()
    wave: Floats = _tone(t, rng) * (1 + np.sin(2 * np.pi * (turns * t + start)))
    return wave


def _crossing_chirps(t: Floats, rng: np.random.Generator) -> Floats:
    low, high = _ends(0.16, 0.36, rng)
    return _oscillation(low + (high - low) * t, rng) + _oscillation(high - (high - low) * t, rng)


def _click(t: Floats, rng: np.random.Generator) -> Floats:
    return _clicks(t, rng.uniform(0, 1, size=1), rng)


def _pulse_train(t: Floats, rng: np.random.Generator) -> Floats:
    return _clicks(t, np.linspace(0, 1, int(rng.integers(3, 6))), rng)


def _clicks(t: Floats, times: Floats, rng: np.random.Generator) -> Floats:
    """Returns single samples at the given times, each with a window's share of a strong tone's energy."""
    clicks = np.zeros_like(t)
    clicks[np.rint(times * (len(t) - 1)).astype(int)] = rng.uniform(1.6, 2.4) * np.sqrt(_WINDOW)
    return clicks


def _noise_burst(t: Floats, rng: np.random.Generator) -> Floats:
    """Returns all frequencies for a part of the time."""
    length, start = rng.uniform(0.25, 0.5), rng.uniform(0, 0.5)
    inside = (t >= start) & (t < start + length)
    return np.where(inside, 3 * rng.normal(size=t.shape), 0.0)


def _noise_band(t: Floats, rng: np.random.Generator) -> Floats:
    """Returns the frequencies of a band all the time."""
    from scipy.signal import butter, sosfilt

    low, high = _ends(0.08, 0.16, rng)
    sections = butter(4, (low, high), "bandpass", fs=1.0, output="sos")
    filtered: Floats = sosfilt(sections, rng.normal(size=t.shape))
    band: Floats = 1.5 * filtered / filtered.std()
    return band


SOUNDS: dict[str, Sound] = {
    "tone": _tone,
    "two tones": _two_tones,
    "harmonics": _harmonics,
    "rising chirp": _rising_chirp,
    "falling chirp": _falling_chirp,
    "up-down sweep": _up_down_sweep,
    "down-up sweep": _down_up_sweep,
    "rising step": _rising_step,
    "falling step": _falling_step,
    "vibrato": _vibrato,
    "tremolo": _tremolo,
    "crossing chirps": _crossing_chirps,
    "click": _click,
    "pulse train": _pulse_train,
    "noise burst": _noise_burst,
    "noise band": _noise_band,
}
"""From samples (their times, 0 at the sound's begin and 1 at its end) and a random generator to the sound."""
