"""Exports a RoBERTa of transformers that classifies text: int64 ids and mask (rows, tokens) to scores.

    python scripts/export_roberta.py --model cardiffnlp/twitter-roberta-base-sentiment-latest
    python gw.py deploy exported/roberta.ts --config exported/roberta.toml

`--model` is a name at the Hugging Face hub, or a folder of one that was downloaded.
"""

from __future__ import annotations

import sys
import warnings
from argparse import ArgumentParser
from typing import Any

import torch
from exporting import EXIT_OK, imported, options, write_settings
from saving import exported, traced, write
from torch import nn

MODEL = "cardiffnlp/twitter-roberta-base-sentiment-latest"
LONGEST = 512


class Scores(nn.Module):
    """Tensors in and one tensor out, where transformers has a class for that."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.network(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)[0]


def load(transformers: Any, model: str, *, random: bool) -> tuple[nn.Module, Any]:
    """A network, and its tokenizer; a small one of random weights has none."""
    if random:
        config = transformers.RobertaConfig(
            vocab_size=640, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            num_labels=4, max_position_embeddings=LONGEST + 2,
        )  # fmt: skip
        return transformers.RobertaForSequenceClassification(config), None
    network = transformers.AutoModelForSequenceClassification.from_pretrained(model)
    return network, transformers.AutoTokenizer.from_pretrained(model)


def main(argv: list[str] | None = None) -> int:
    parser = ArgumentParser(description="Export a RoBERTa of transformers.")
    parser.add_argument("--model", default=MODEL, help=f"which (default: {MODEL})")
    given = options(parser, argv)
    path = given.out / "roberta"
    network, tokenizer = load(imported("transformers"), given.model, random=given.random)
    scores = Scores(network).eval().requires_grad_(False)
    mask = torch.ones(2, 16, dtype=torch.int64)
    example = {"input_ids": torch.full((2, 16), 5), "attention_mask": mask}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of conditions in transformers' code that were not traced
        write(path.with_suffix(".ts"), traced(scores, example))
    tokens = torch.export.Dim("tokens", min=2, max=LONGEST)
    free = {name: {1: tokens} for name in example}
    write(path.with_suffix(".pt2"), exported(scores, example, free))
    text = f"[model.text]\nmax_length = {LONGEST}\n"
    if tokenizer is not None:
        write(path.with_suffix(".tokenizer.json"), tokenizer.backend_tokenizer.to_str().encode())
        text += f'tokenizer = "{path.name}.tokenizer.json"\n'
    labels = [network.config.id2label[at] for at in sorted(network.config.id2label)]
    write_settings(path, labels, model='input_type = "text"\noutput_type = "classification"\n', tables=text)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
