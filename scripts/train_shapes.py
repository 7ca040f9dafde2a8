"""Trains data/shapes.*: a small network that says what each pixel of a drawing belongs to.

The drawings are made by Pillow: circles, squares and triangles, light or dark, on grounds of another colour
and under noise. The network takes float32 (rows, 3, 32, 32) from 0 to 1 and gives, as DeepLab does, a dict of
one tensor, `out`: a score for each of four classes and each pixel, (rows, 4, 32, 32).

The same torch gives the same network on the same machine.
"""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from PIL import Image, ImageDraw
from saving import arguments, save
from torch import nn

EXIT_OK, EXIT_NOT_LEARNED = 0, 1

CLASSES = ("background", "circle", "square", "triangle")
SIDE = 32
DRAWINGS, UNSEEN = 1200, 200
EPOCHS = 16
LEAST_IOU = 0.8  # mean over the classes, of drawings it was not trained with: what data/ promises


class ShapesNetwork(nn.Module):
    """Half the size and back, with what the fine pixels looked like beside it; about 21,000 parameters."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.coarse = nn.Sequential(
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=2, dilation=2), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, width, 3, padding=4, dilation=4), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
        )  # fmt: skip
        self.head = nn.Conv2d(2 * width, len(CLASSES), 1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        fine = self.fine(image)
        return {"out": self.head(torch.cat([fine, self.coarse(fine)], 1))}


def draw(chance: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """A drawing, and which class each of its pixels is."""
    ground = chance.integers(0, 256, 3)
    picture, classes = Image.new("RGB", (SIDE, SIDE), tuple(ground.tolist())), Image.new("L", (SIDE, SIDE), 0)
    for _ in range(int(chance.integers(1, 3))):
        kind = int(chance.integers(1, len(CLASSES)))
        colour = (ground + chance.integers(90, 166, 3)) % 256  # never near the ground's
        radius, turn = chance.uniform(6, 10), chance.uniform(-20, 20)
        x, y = chance.uniform(radius, SIDE - radius, 2)
        for image, fill in ((picture, tuple(colour.tolist())), (classes, kind)):
            pen = ImageDraw.Draw(image)
            if CLASSES[kind] == "circle":
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
            else:
                pen.regular_polygon((x, y, radius), 4 if CLASSES[kind] == "square" else 3, turn, fill=fill)
    return picture, classes


def drawings(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy drawings, and the classes of their pixels."""
    chance = np.random.default_rng(seed)
    pairs = [draw(chance) for _ in range(count)]
    images = np.stack([np.asarray(picture, np.float32) / 255 for picture, _ in pairs]).transpose(0, 3, 1, 2)
    images += chance.normal(0, 0.04, images.shape).astype(np.float32)
    classes = np.stack([np.asarray(each, np.int64) for _, each in pairs])
    return torch.from_numpy(images.clip(0, 1)), torch.from_numpy(classes)


def train(images: torch.Tensor, classes: torch.Tensor) -> nn.Module:
    """A trained network. Seeds torch's global generator: all chance but the drawings' comes from there."""
    torch.manual_seed(0)
    network = ShapesNetwork()
    optimizer = torch.optim.Adam(network.parameters())
    steps = EPOCHS * -(-len(images) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch])["out"], classes[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def mean_iou(network: nn.Module, images: torch.Tensor, classes: torch.Tensor) -> float:
    """Intersection over union of what it says and what is true, the mean over the classes."""
    with torch.no_grad():
        said = network(images)["out"].argmax(1)
    ratios = []
    for each in range(len(CLASSES)):
        both, either = (said == each) & (classes == each), (said == each) | (classes == each)
        ratios.append(float(both.sum() / either.sum()))
    return math.fsum(ratios) / len(ratios)


def main(argv: list[str] | None = None) -> int:
    out = arguments("Train the network that finds shapes.", argv)
    images, classes = drawings(DRAWINGS, seed=1)
    network = train(images, classes)
    reached = mean_iou(network, *drawings(UNSEEN, seed=2))
    print(f"shapes: a mean IoU of {reached:.3f} on {UNSEEN} drawings that it has not seen", flush=True)
    if reached < LEAST_IOU:
        print(f"not learned: it should be at least {LEAST_IOU}", file=sys.stderr)
        return EXIT_NOT_LEARNED
    save(network, {"image": images[:2]}, out / "shapes")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
