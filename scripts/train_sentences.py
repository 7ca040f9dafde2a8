"""Trains data/sentences.*: a small network that says what a sentence is about, and the tokenizer before it.

The sentences are put together here, of words for four subjects. Those that are tested with are of other
frames, and have words in them that no sentence of the training has. The network takes, as RoBERTa does,
the ids of tokens and a mask that is 1 where there is one, both int64 (rows, tokens) with any number of
tokens, and gives a score for each subject, (rows, 4). sentences.tokenizer.json is a file of the library
`tokenizers`.

The same torch gives the same network on the same machine.
"""

from __future__ import annotations

import random
import sys

import torch
from saving import arguments, save, write
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

EXIT_OK, EXIT_NOT_LEARNED = 0, 1

SUBJECTS = ("weather", "food", "music", "sport")
WORDS = {
    "weather": (
        "rain snow wind storm clouds sunshine thunder fog frost hail drizzle lightning",
        "rainy cloudy stormy sunny windy frosty foggy icy",
    ),
    "food": (
        "soup bread cheese salad pasta cake apples rice pancakes potatoes tomatoes lunch",
        "tasty salty sweet fried baked spicy roasted delicious",
    ),
    "music": (
        "guitar piano violin drums choir concert melody song trumpet orchestra rhythm singer",
        "loud melodic acoustic orchestral rhythmic off-key harmonious musical",
    ),
    "sport": (
        "football tennis goal referee marathon swimming team race coach stadium penalty cyclist",
        "athletic fast competitive fit exhausted victorious defeated unbeaten",
    ),
}
TO_LEARN = (
    "the {noun} was {adjective} this {new}",
    "we had {adjective} {noun} and {other} with the {new}",
    "I really like {noun}, said the {new}",
    "there will be {adjective} {other} tomorrow",
    "is the {new} happy after such {noun}?",
    "my sister told me about the {noun} before the {other}",
    "the {new} expected no {noun}",
)
NEW_TO_LEARN = (
    "friend morning guest month doctor party brother village summer child writer answer train street"
)
TO_TEST = (
    "nobody expected such {adjective} {noun} this {new}",
    "after the {noun} came the {other}, and the {new} went home",
    "what does the {new} think of {adjective} {noun}?",
)
NEW_TO_TEST = "neighbour evening visitor weekend teacher holiday"

SENTENCES, UNSEEN = 3000, 400
EPOCHS = 8
VOCABULARY = 640
LEAST_ACCURACY = 0.95  # what data/ promises


class SentencesNetwork(nn.Module):
    """The mean of what its tokens mean, and a layer; about 33,000 parameters."""

    def __init__(self, vocabulary: int = VOCABULARY, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.02)  # pieces never seen in training say next to nothing
        self.inner = nn.Linear(width, width)
        self.head = nn.Linear(width, len(SUBJECTS))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        mask = attention_mask.unsqueeze(-1).float()
        mean = (self.embedding(input_ids) * mask).sum(1) / mask.sum(1).clamp(min=1.0)
        logits: torch.Tensor = self.head(torch.relu(self.inner(mean)))
        return logits


def sentences(count: int, frames: tuple[str, ...], new: str, seed: int) -> tuple[list[str], torch.Tensor]:
    """Sentences, and which subject each has."""
    chance = random.Random(seed)
    subjects = [chance.randrange(len(SUBJECTS)) for _ in range(count)]
    texts = []
    for subject in subjects:
        nouns, adjectives = (words.split() for words in WORDS[SUBJECTS[subject]])
        noun, other = chance.sample(nouns, 2)
        frame = chance.choice(frames)
        texts.append(
            frame.format(
                noun=noun, other=other, adjective=chance.choice(adjectives), new=chance.choice(new.split())
            )
        )
    return texts, torch.tensor(subjects)


def make_tokenizer(texts: list[str]) -> Tokenizer:
    """Pieces of lower-case words, as often as they are in the texts; a mark before and after each."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<pad>", "<s>", "</s>", "<unk>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=marks)
    tokenizer.enable_padding(pad_id=0, pad_token="<pad>")
    tokenizer.enable_truncation(128)
    return tokenizer


def tokens(tokenizer: Tokenizer, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, filled up to the longest."""
    encoded = tokenizer.encode_batch(texts)
    return torch.tensor([each.ids for each in encoded]), torch.tensor(
        [each.attention_mask for each in encoded]
    )


def train(ids: torch.Tensor, mask: torch.Tensor, subjects: torch.Tensor) -> nn.Module:
    """A trained network. Seeds torch's global generator: all chance but the sentences' comes from there."""
    torch.manual_seed(0)
    network = SentencesNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.005, weight_decay=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(ids)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(ids[batch], mask[batch]), subjects[batch]).backward()
            optimizer.step()
    return network.eval()


def main(argv: list[str] | None = None) -> int:
    out = arguments("Train the network that says what a sentence is about.", argv)
    texts, subjects = sentences(SENTENCES, TO_LEARN, NEW_TO_LEARN, seed=1)
    unseen_texts, unseen_subjects = sentences(UNSEEN, TO_TEST, NEW_TO_TEST, seed=2)
    tokenizer = make_tokenizer(texts)
    ids, mask = tokens(tokenizer, texts)
    network = train(ids, mask, subjects)
    with torch.no_grad():
        said = network(*tokens(tokenizer, unseen_texts)).argmax(1)
    reached = float((said == unseen_subjects).float().mean())
    print(f"sentences: {reached:.1%} of {UNSEEN} that it has not seen", flush=True)
    if reached < LEAST_ACCURACY:
        print(f"not learned: at least {LEAST_ACCURACY:.0%} should be", file=sys.stderr)
        return EXIT_NOT_LEARNED
    count = torch.export.Dim("tokens", min=1, max=512)
    free = {"input_ids": {1: count}, "attention_mask": {1: count}}
    save(network, {"input_ids": ids[:2], "attention_mask": mask[:2]}, out / "sentences", free=free)
    write(out / "sentences.tokenizer.json", tokenizer.to_str(pretty=False).encode())
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
