# SPDX-License-Identifier: GPL-3.0-or-later
"""HDR video (PQ and HLG, as phones film it) to display sRGB.

The transfer functions are those of ITU-R BT.2100. Reference white (203 cd/m2, ITU-R BT.2408) becomes 1; what is
brighter is rolled off, so that skin and cloth keep their colours and highlights do not clip hard.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

#: FFmpeg's numbers of transfer characteristics (AVColorTransferCharacteristic).
_PQ, _HLG = 16, 18

#: Linear BT.2020 to linear BT.709 primaries (ITU-R BT.2087, inverted).
_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)

#: Up to here light is kept, above it is rolled off towards _PEAK, which becomes 1. Reference white is 1.
_KNEE, _PEAK = 0.75, 5.0

_STEPS = 65535


@dataclass(frozen=True)
class Tone:
    """How to bring a kind of HDR to the standard range. light: (65536,) float32, linear light of each coded value."""

    name: str
    light: npt.NDArray[np.float32]

    def apply(self, coded: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
        """coded: (H, W, 3) uint16, BT.2020. Returns (H, W, 3) uint8 sRGB."""
        linear = cv2.transform(self.light[coded], _TO_709)
        steps = np.clip(linear * (_STEPS / _PEAK), 0, _STEPS).astype(np.uint16)
        return np.asarray(_DISPLAY[steps], np.uint8)


def tone(transfer: int) -> Tone | None:
    """The way for FFmpeg's transfer characteristic; None for footage of standard range."""
    value = np.linspace(0, 1, 65536)
    if transfer == _PQ:
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        root = value ** (1 / m2)
        return Tone("PQ", (10000 / 203 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)).astype(np.float32))
    if transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
        # The system gamma of a 1000 cd/m2 display, applied to each channel; 203 cd/m2 is reference white.
        return Tone("HLG", (1000 / 203 * scene**1.2).astype(np.float32))
    return None


def _display_table() -> npt.NDArray[np.uint8]:
    """sRGB (0-255) of linear light 0 … _PEAK in equal steps, the highlights rolled off."""
    light = np.linspace(0, _PEAK, _STEPS + 1)
    over = np.maximum(light - _KNEE, 0) / (_PEAK - _KNEE)
    # A curve of slope 1 at the knee that reaches 1 at the peak.
    room = (1 - _KNEE) / (_PEAK - _KNEE)
    power = 1 / room
    rolled = np.where(light <= _KNEE, light, _KNEE + (1 - _KNEE) * (1 - (1 - over) ** power))
    srgb = np.where(rolled <= 0.0031308, 12.92 * rolled, 1.055 * np.maximum(rolled, 0.0031308) ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(np.clip(srgb, 0, 1) * 255), np.uint8)


_DISPLAY = _display_table()
