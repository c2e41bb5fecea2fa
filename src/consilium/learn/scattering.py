"""The scattering transform: wavelets, moduli and averages, twice; nothing in it is learned.

    S x = [ x * phi,  |x * psi_1| * phi,  ||x * psi_1| * psi_2| * phi ],   phi averages over 2^J pixels

psi_{j,t}: Morlet wavelets, scale 2^j (j < J), angle pi (L/2 - 1 - t) / L, zero mean; psi_2 is coarser than psi_1.
Convolutions are products in Fourier space, and a signal of scale 2^j is kept at every 2^j-th pixel.  phi is a product
of two 1-D Gaussians, so averaging, subsampling and cutting the margin off is one small matrix on either side.

Source: Mallat 2012, arXiv 1101.2286; Bruna & Mallat 2013, arXiv 1203.1513; filters as in Andreux et al. 2020 (Kymatio),
arXiv 1812.11214.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from consilium.core.errors import Refused
from consilium.core.front import Front

__all__ = ["Scattering", "gaussian_filter", "low_frequencies", "morlet"]

_AT_ONCE = 8
"""Images transformed together: more leave the cache."""


class Scattering(Front):  # module and name stand in the digests of stages (start_mark): they stay
    """x ``(n, c, h, w)`` -> ``(n, c * paths, h // 2^J, w // 2^J)``, paths = 1 + L J + L^2 J (J - 1) / 2, by order."""

    def __init__(self, shape: tuple[int, int], scale: int = 2, angles: int = 8) -> None:
        super().__init__()
        self.scale, self.angles, self.shape = scale, angles, shape
        step = 2**scale
        self.padded = tuple(((side + step) // step + 1) * step for side in shape)
        if min(shape) < step or max(_margins(shape, self.padded)) >= min(shape):
            raise Refused(
                f"images of {shape[0]} x {shape[1]} are too small to average over {step} pixels",
                remedy="use a smaller model.scale",
                where="model.scale",
            )

    @property
    def paths(self) -> int:
        """Channels that one input channel becomes."""
        scale, angles = self.scale, self.angles
        return 1 + angles * scale + angles**2 * scale * (scale - 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        """The coefficients; each image on its own, differentiable in ``x``."""
        if not len(x):  # what fft makes of nothing is an error
            return x.new_zeros(0, x.shape[1] * self.paths, *(side >> self.scale for side in self.shape))
        return torch.cat([self._of(part) for part in torch.split(x, _AT_ONCE)])

    def _of(self, x: Tensor) -> Tensor:
        """Of one part."""
        bank = _bank(self.shape, self.padded, self.scale, self.angles, x.dtype, x.device)
        orders: list[list[Tensor]] = [[], [], []]
        padded = F.pad(x, _margins(self.shape, self.padded), mode="reflect").unsqueeze(2)
        orders[0].append(bank.average(padded, 0))
        spectrum = torch.fft.fft2(padded)
        for first in range(self.scale):
            one = _moduli(spectrum, bank.wavelets[first][0], first)
            orders[1].append(bank.average(one, first))
            if first + 1 == self.scale:
                break
            inner = torch.fft.fft2(one).unsqueeze(3)
            twos = [_moduli(inner, bank.wavelets[j][first], j - first) for j in range(first + 1, self.scale)]
            # kymatio's order: for every first wavelet its second ones, scale by scale
            seconds = [bank.average(two, j) for j, two in enumerate(twos, first + 1)]
            orders[2].append(torch.cat(seconds, 3).flatten(2, 3))
        every = [part for order in orders for part in order]
        return torch.cat(every, 2).flatten(1, 2)


class _Bank:
    """Filters for one size: ``wavelets[j][r]`` ``(L, h / 2^r, w / 2^r)`` in Fourier space; averages for every r."""

    def __init__(self, shape: tuple[int, ...], padded: tuple[int, ...], scale: int, angles: int) -> None:
        rotations = [math.pi * (angles // 2 - 1 - t) / angles for t in range(angles)]
        self.wavelets = [
            [
                torch.stack([low_frequencies(morlet(padded, j, angle, 4 / angles), r) for angle in rotations])
                for r in range(j + 1)
            ]
            for j in range(scale)
        ]
        self.averages = [
            [_average(side, wide, scale, r) for side, wide in zip(shape, padded, strict=True)] for r in range(scale)
        ]

    def to(self, dtype: torch.dtype, device: torch.device) -> _Bank:
        """In the type and on the device of the images."""
        self.wavelets = [[w.to(device, dtype) for w in group] for group in self.wavelets]
        self.averages = [[m.to(device, dtype) for m in group] for group in self.averages]
        return self

    def average(self, signal: Tensor, level: int) -> Tensor:
        """``signal (..., h / 2^level, w / 2^level)`` -> ``(..., h' , w')``: averaged, subsampled, without margin."""
        down, across = self.averages[level]
        return down @ signal @ across.T


@lru_cache(maxsize=16)
def _bank(
    shape: tuple[int, int], padded: tuple[int, ...], scale: int, angles: int, dtype: torch.dtype, device: torch.device
) -> _Bank:
    return _Bank(shape, padded, scale, angles).to(dtype, device)


def _moduli(spectrum: Tensor, wavelets: Tensor, times: int) -> Tensor:
    """|signal * psi| at every 2^times-th pixel, for each wavelet; ``spectrum`` is the signal in Fourier space.

    To keep every k-th pixel is to add up the k x k blocks of frequencies that then look alike.
    """
    k = 2**times
    pairs = [
        (block, wavelet)
        for strip, of in zip(spectrum.chunk(k, -2), wavelets.chunk(k, -2), strict=True)
        for block, wavelet in zip(strip.chunk(k, -1), of.chunk(k, -1), strict=True)
    ]
    folded = pairs[0][0] * pairs[0][1]
    for block, wavelet in pairs[1:]:
        folded = torch.addcmul(folded, block, wavelet)
    out: Tensor = torch.fft.ifft2(folded).abs() / k**2
    return out


def morlet(size: tuple[int, ...], j: int, angle: float, slant: float) -> Tensor:
    """A Morlet wavelet of scale 2^j in Fourier space, ``size`` float64: zero at frequency zero."""
    deviation, frequency = 0.8 * 2**j, 0.75 * math.pi / 2**j
    wave = _gabor(size, deviation, angle, frequency, slant)
    bump = _gabor(size, deviation, angle, 0.0, slant)
    out: Tensor = torch.fft.fft2(wave - wave.sum() / bump.sum() * bump).real
    return out


def _gabor(size: tuple[int, ...], deviation: float, angle: float, frequency: float, slant: float) -> Tensor:
    """A Gaussian, ``slant`` times as wide along the wave as across it, times a plane wave; made periodic."""
    down, across = (torch.arange(-2 * side, 3 * side, dtype=torch.float64) for side in size)
    u = down[:, None] * math.cos(angle) + across * math.sin(angle)
    v = across * math.cos(angle) - down[:, None] * math.sin(angle)
    envelope = torch.exp(-(u**2 + (slant * v) ** 2) / (2 * deviation**2)) * slant / (2 * math.pi * deviation**2)
    whole = torch.polar(envelope, frequency * u)
    return whole.view(5, size[0], 5, size[1]).sum((0, 2))


def gaussian_filter(side: int, deviation: float) -> Tensor:
    """A periodic 1-D Gaussian of mass one in Fourier space, ``(side,)`` float64."""
    at = torch.arange(-2 * side, 3 * side, dtype=torch.float64)
    bump = torch.exp(-(at**2) / (2 * deviation**2)) / (math.sqrt(2 * math.pi) * deviation)
    out: Tensor = torch.fft.fft(bump.view(5, side).sum(0)).real
    return out


def low_frequencies(filter_: Tensor, level: int) -> Tensor:
    """A filter for signals kept at every 2^level-th pixel: its lowest frequencies, in every axis."""
    for axis, side in enumerate(filter_.shape):
        half = side >> (level + 1)
        if level:
            filter_ = torch.cat([filter_.narrow(axis, 0, half), filter_.narrow(axis, side - half, half)], axis)
    return filter_


def _average(side: int, wide: int, scale: int, level: int) -> Tensor:
    """``(side // 2^J, wide / 2^level)``: row p averages around pixel 2^J (p + 1) of the padded signal."""
    bump = torch.fft.ifft(low_frequencies(gaussian_filter(wide, 0.8 * 2 ** (scale - 1)), level)).real
    there = (torch.arange(side >> scale) + 1) << (scale - level)
    out: Tensor = bump[(there[:, None] - torch.arange(len(bump))) % len(bump)]
    return out


def _margins(shape: tuple[int, int], padded: tuple[int, ...]) -> list[int]:
    """What is reflected left, right, above and below."""
    extra = [wide - side for wide, side in zip(padded, shape, strict=True)]
    return [extra[1] // 2, (extra[1] + 1) // 2, extra[0] // 2, (extra[0] + 1) // 2]
