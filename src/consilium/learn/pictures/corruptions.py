"""Common corruptions of pictures, at severities 1 to 5: what scanners, cameras and files do to them.

    noise       gaussian_noise, shot_noise (Poisson counts), impulse_noise (salt and pepper)
    blur        defocus (a disk), motion (a line)
    light       brightness, contrast, gamma
    digital     pixelate, jpeg

Constants are those of CIFAR-10-C; lengths are of pictures 28 pixels wide, and grow with the side.  Random numbers of a
record come from its seed alone.

Source: Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions, arXiv 1903.12261;
Di Salvo et al. 2024, MedMNIST-C, arXiv 2406.17536.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CORRUPTIONS", "SEVERITIES", "corrupted", "jpeg_is_there"]

SEVERITIES = (1, 2, 3, 4, 5)
_WIDTH = 28


def corrupted(name: str, x: Tensor, severity: int, seeds: Tensor) -> Tensor:
    """``x (n, channels, height, width)`` in [0, 1] under the corruption of that ``name``; ``seeds (n,)`` int64."""
    constants, change = CORRUPTIONS[name]
    return change(x, constants[severity - 1], seeds).clamp(0, 1)


def jpeg_is_there() -> bool:
    """Whether pictures can be written as JPEG: the extra ``images`` is installed."""
    return importlib.util.find_spec("PIL") is not None


def _noise(draw: Callable[[Tensor, torch.Generator], Tensor], x: Tensor, seeds: Tensor) -> Tensor:
    """``draw`` for each record, from a generator of its own."""
    rows = [draw(row, torch.Generator().manual_seed(seed)) for row, seed in zip(x.cpu(), seeds.tolist(), strict=True)]
    return torch.stack(rows).to(x.device) if rows else x


def _gaussian_noise(x: Tensor, deviation: float, seeds: Tensor) -> Tensor:
    return _noise(lambda row, g: row + deviation * torch.randn(row.shape, generator=g, dtype=row.dtype), x, seeds)


def _shot_noise(x: Tensor, photons: float, seeds: Tensor) -> Tensor:
    return _noise(lambda row, g: torch.poisson(row.clamp(0, 1) * photons, generator=g) / photons, x, seeds)


def _impulse_noise(x: Tensor, share: float, seeds: Tensor) -> Tensor:
    def draw(row: Tensor, generator: torch.Generator) -> Tensor:
        coins, ends = torch.rand(2, *row.shape, generator=generator, dtype=row.dtype)
        return torch.where(coins < share, (ends < 0.5).to(row), row)

    return _noise(draw, x, seeds)


def _filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """Each channel under ``kernel (k, k)``; the border is repeated outwards."""
    half, channels = kernel.shape[0] // 2, x.shape[1]
    weight = (kernel / kernel.sum()).to(x).expand(channels, 1, *kernel.shape)
    return F.conv2d(F.pad(x, (half, half, half, half), mode="replicate"), weight, groups=channels)


def _defocus(x: Tensor, radius: float, _seeds: Tensor) -> Tensor:
    reach = radius * min(x.shape[2:]) / _WIDTH
    axis = torch.arange(-math.ceil(reach), math.ceil(reach) + 1, dtype=x.dtype)
    distance = (axis[:, None].square() + axis[None].square()).sqrt()
    return _filtered(x, (reach + 0.5 - distance).clamp(0, 1))


def _motion(x: Tensor, length: float, _seeds: Tensor) -> Tensor:
    half = max(1, round(length * min(x.shape[2:]) / _WIDTH / 2))
    kernel = torch.zeros(2 * half + 1, 2 * half + 1)
    kernel[half] = 1
    return _filtered(x, kernel)


def _contrast(x: Tensor, share: float, _seeds: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return mean + share * (x - mean)


def _pixelate(x: Tensor, share: float, _seeds: Tensor) -> Tensor:
    small = [max(1, int(size * share)) for size in x.shape[2:]]
    return F.interpolate(F.interpolate(x, size=small, mode="area"), size=x.shape[2:], mode="nearest")


def _jpeg(x: Tensor, quality: float, _seeds: Tensor) -> Tensor:
    """Grey pictures channel by channel, three channels as colours."""
    from PIL import Image

    def stored(pixels: Tensor) -> Tensor:
        buffer = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(buffer, "JPEG", quality=int(quality))
        return torch.from_numpy(np.asarray(Image.open(buffer)).copy())

    pixels = (x.clamp(0, 1) * 255).round().byte().cpu()
    if x.shape[1] == 3:
        after = torch.stack([stored(p.permute(1, 2, 0).contiguous()).permute(2, 0, 1) for p in pixels])
    else:
        after = torch.stack([torch.stack([stored(channel) for channel in p]) for p in pixels])
    return after.to(x) / 255


CORRUPTIONS: Mapping[str, tuple[tuple[float, ...], Callable[[Tensor, float, Tensor], Tensor]]] = {
    "gaussian_noise": ((0.04, 0.06, 0.08, 0.09, 0.10), _gaussian_noise),
    "shot_noise": ((500, 250, 100, 75, 50), _shot_noise),
    "impulse_noise": ((0.01, 0.02, 0.03, 0.05, 0.07), _impulse_noise),
    "defocus": ((0.6, 1.0, 1.4, 1.8, 2.4), _defocus),
    "motion": ((2, 4, 6, 8, 10), _motion),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), lambda x, shift, _seeds: x + shift),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), _contrast),
    "gamma": ((1.2, 1.4, 1.6, 1.8, 2.0), lambda x, power, _seeds: x.clamp(0, 1) ** power),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), _pixelate),
    "jpeg": ((80, 65, 58, 50, 40), _jpeg),
}
"""The constants of severities 1 to 5, and what is done with them."""
