"""Trains data/digits.*: a small convolutional network that reads handwritten digits of 8 × 8 pixels.

The pictures are those that come with scikit-learn; a fifth of them is only tested with. The network takes
float32 (rows, 1, 8, 8), 0 for paper and 1 for ink, and gives a score for each digit, (rows, 10).

The same torch gives the same network on the same machine.
"""

from __future__ import annotations

import sys

import torch
from saving import arguments, save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

EXIT_OK, EXIT_NOT_LEARNED = 0, 1

EPOCHS = 25
LEAST_ACCURACY = 0.97  # what data/ promises, of pictures it was not trained with


def make_network() -> nn.Module:
    """About 24,000 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.25), nn.Linear(32 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


def pictures() -> list[torch.Tensor]:
    """Pictures to train and to test with, and the digits on each: the same ones every time."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    parts = train_test_split(images, torch.from_numpy(digits.target), test_size=0.2, random_state=0)
    return list(parts)


def train(images: torch.Tensor, digits: torch.Tensor) -> nn.Module:
    """A trained network. Seeds torch's global generator: all chance comes from there."""
    torch.manual_seed(0)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    steps = EPOCHS * -(-len(images) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.006, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), digits[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network: nn.Module, images: torch.Tensor, digits: torch.Tensor) -> float:
    """The part of the pictures that it reads right."""
    with torch.no_grad():
        return float((network(images).argmax(1) == digits).float().mean())


def main(argv: list[str] | None = None) -> int:
    out = arguments("Train the network that reads digits.", argv)
    images, unseen, digits, unseen_digits = pictures()
    network = train(images, digits)
    reached = accuracy(network, unseen, unseen_digits)
    print(f"digits: {reached:.1%} of {len(unseen)} pictures that it has not seen", flush=True)
    if reached < LEAST_ACCURACY:
        print(f"not learned: at least {LEAST_ACCURACY:.0%} should be", file=sys.stderr)
        return EXIT_NOT_LEARNED
    save(network, {"image": images[:2]}, out / "digits")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
