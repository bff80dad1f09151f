"""Random changes of a batch of pictures, all from one generator.

Geometry is one affine map a picture (crop and zoom, mirror, turn, shear), colour three factors, and one rectangle is
erased: a batched relative of RandAugment (Cubuk et al. 2020, arXiv:1909.13719) and random erasing (Zhong et al. 2020,
arXiv:1708.04896).
"""

from __future__ import annotations

import numpy as np
import torch


def augment(
    pixels: torch.Tensor, random: np.random.Generator, strength: float, *, move: bool = True, mirror: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 3, size, size) in 0 to 1, changed at `strength` 0 to 1, and (n, 2, 3): where each point (x, y, 1) went, in pixels.

    `move=False` leaves every pixel where it is.
    """
    moved = torch.eye(2, 3).expand(len(pixels), 2, 3)
    if move:
        pixels, moved = _geometry(pixels, random, strength, mirror)
    pixels = _colour(pixels, random, strength)
    return (_erased(pixels, random, strength) if move else pixels), moved


def _geometry(pixels: torch.Tensor, random: np.random.Generator, strength: float, mirror: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Down to 40 % of the area, sides up to 4:3, 20 degrees, shear .2; what lies outside repeats the edge."""
    n = len(pixels)
    area = 1 - 0.6 * strength * random.random(n)
    ratio = np.exp(np.log(4 / 3) * strength * random.uniform(-1, 1, n) / 2)
    width, height = np.sqrt(area) * ratio, np.sqrt(area) / ratio
    angle, shear = np.deg2rad(20) * strength * random.uniform(-1, 1, n), 0.2 * strength * random.uniform(-1, 1, n)
    side = np.where(random.random(n) < 0.5, -1.0, 1.0) if mirror else np.ones(n)
    shift = random.uniform(-1, 1, (n, 2)) * np.abs(1 - np.stack([width, height], axis=1))
    turn = np.stack([np.cos(angle), -np.sin(angle) + shear, np.sin(angle), np.cos(angle)], axis=1).reshape(n, 2, 2)
    scale = np.stack([width * side, height], axis=1)[:, None, :]
    theta = torch.from_numpy(np.concatenate([turn * scale, shift[:, :, None]], axis=2)).to(pixels.dtype)
    grid = torch.nn.functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # theta says where an output point comes from, in units of half a side from the centre
    turned = torch.linalg.inv(theta[:, :, :2])
    half = pixels.shape[-1] / 2
    shifted = half - turned @ (half * (1 + theta[:, :, 2:]))
    return moved, torch.cat([turned, shifted], dim=2)


def _colour(pixels: torch.Tensor, random: np.random.Generator, strength: float) -> torch.Tensor:
    """Brightness, contrast and saturation by factors of .6 to 1.4 at most."""
    bright, contrast, saturation = (
        torch.from_numpy(1 + 0.4 * strength * random.uniform(-1, 1, (len(pixels), 1, 1, 1))).to(pixels.dtype) for _ in range(3)
    )
    pixels = pixels * bright
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = mean + (pixels - mean) * contrast
    grey = pixels.mean(1, keepdim=True)
    return (grey + (pixels - grey) * saturation).clamp(0, 1)


def _erased(pixels: torch.Tensor, random: np.random.Generator, strength: float) -> torch.Tensor:
    """In a quarter of the pictures (at full strength) a rectangle of up to a third of each side becomes the picture's mean."""
    n, _, height, width = pixels.shape
    chosen = random.random(n) < 0.25 * strength
    sizes, places = random.uniform(0.1, 0.33, (n, 2)), random.random((n, 2))
    pixels = pixels.clone()
    for row in np.flatnonzero(chosen):
        tall, wide = int(sizes[row, 0] * height), int(sizes[row, 1] * width)
        top, left = int(places[row, 0] * (height - tall)), int(places[row, 1] * (width - wide))
        pixels[row, :, top : top + tall, left : left + wide] = pixels[row].mean((1, 2))[:, None, None]
    return pixels
