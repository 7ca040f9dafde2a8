"""Networks of the interfaces that torchvision's and transformers' have, with random weights and small: what
they answer means nothing, but they are called, exported and served in the same way."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, scaled_dot_product_attention


class Block(nn.Module):
    """Two convolutions and what went in beside them, as in ResNet-18."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.downsample = nn.Identity() if stride == 1 and inner == outer else _project(inner, outer, stride)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.bn1(self.conv1(image)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.downsample(image))


def _project(inner: int, outer: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))


class ResNet18(nn.Module):
    """float32 (rows, 3, 224, 224) to scores (rows, 1000). With a width of 64 it is ResNet-18."""

    def __init__(self, width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        )  # fmt: skip
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        blocks = []
        for at in range(4):
            blocks.append(Block(widths[at], widths[at + 1], 1 if at == 0 else 2))
            blocks.append(Block(widths[at + 1], widths[at + 1], 1))
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.fc(self.blocks(self.stem(image)).mean((2, 3)))
        return scores


class DeepLab(nn.Module):
    """float32 (rows, 3, height, width) to {"out": scores of each class and pixel}."""

    def __init__(self, classes: int = 21, width: int = 8) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3, 4, padding=1), nn.ReLU())
        self.atrous = nn.ModuleList(
            [nn.Conv2d(width, width, 3, padding=rate, dilation=rate) for rate in (1, 6, 12)]
        )
        self.head = nn.Conv2d(3 * width, classes, 1)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.backbone(image)
        scores = self.head(torch.cat([torch.relu(branch(features)) for branch in self.atrous], 1))
        return {"out": interpolate(scores, size=image.shape[-2:], mode="bilinear", align_corners=False)}


class FasterRcnn(nn.Module):
    """float32 (rows, 3, height, width) to a dict for each row: boxes (found, 4), labels and scores (found,).

    It finds bright spots: cells of 8 × 8 pixels whose mean is above a half, so a row of zeros has none.
    """

    def forward(self, images: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        return [self.detect(image) for image in images.unbind(0)]

    def detect(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        cells = avg_pool2d(image.mean(0, keepdim=True).unsqueeze(0), 8)[0, 0]
        found = (cells > 0.5).nonzero()
        scores = cells[cells > 0.5]
        y, x = found[:, 0] * 8.0, found[:, 1] * 8.0
        return {
            "boxes": torch.stack([x, y, x + 8.0, y + 8.0], 1),
            "labels": found[:, 0] * 0 + 1,
            "scores": scores,
        }


class Roberta(nn.Module):
    """int64 ids and mask (rows, tokens) to scores (rows, classes); one layer of a transformer's encoder."""

    def __init__(self, vocabulary: int = 640, width: int = 32, classes: int = 2) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, width, padding_idx=1)
        self.qkv = nn.Linear(width, 3 * width)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.embeddings(input_ids)
        q, k, v = self.qkv(hidden).chunk(3, -1)
        mask = (attention_mask > 0).unsqueeze(1)
        hidden = self.norm(hidden + scaled_dot_product_attention(q, k, v, attn_mask=mask))
        logits: torch.Tensor = self.classifier(hidden[:, 0])
        return logits
