#!/usr/bin/env python3
"""Trains the byte-level BPE tokenizer and encodes the training text to tokens.npy (uint16)."""

import argparse
import json
import pathlib

import numpy
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from clean import SEPARATOR

VOCABULARY = 4096
END_OF_TEXT = "<|endoftext|>"
SPECIAL = [END_OF_TEXT, "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"]
# Qwen2's: words with the blank before them, digits one by one, runs of blanks and punctuation.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Of each domain, so that none shapes the vocabulary more than another.
TRAINING_CHARS = 5_000_000


def domains(corpus):
    """The domains' names, in a fixed order."""
    return sorted(path.stem for path in (corpus / "train").glob("*.txt"))


def documents(path):
    """The documents of one file of the corpus."""
    return path.read_text(encoding="utf-8").split(SEPARATOR)


def train(corpus, vocabulary=VOCABULARY):
    """A new tokenizer, from an equal share of each domain's training text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )

    def texts():
        for domain in domains(corpus):
            room = TRAINING_CHARS
            for text in documents(corpus / "train" / f"{domain}.txt"):
                if room <= 0:
                    break
                room -= len(text)
                yield text

    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def encode(tokenizer, corpus, seed):
    """All training documents in a random order, an end-of-text token before each."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    texts, counts = [], {}
    for domain in domains(corpus):
        found = documents(corpus / "train" / f"{domain}.txt")
        counts[domain] = len(found)
        texts += found
    order = numpy.random.default_rng(seed).permutation(len(texts))
    parts = []
    for start in range(0, len(order), 256):
        batch = [texts[i] for i in order[start : start + 256]]
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            parts.append(numpy.array([end] + encoding.ids, dtype=numpy.uint16))
    return numpy.concatenate(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=pathlib.Path, required=True, help="made by corpus.py")
    parser.add_argument("--seed", type=int, default=1, help="of the documents' order")
    arguments = parser.parse_args()
    tokenizer = train(arguments.corpus)
    tokenizer.save(str(arguments.corpus / "tokenizer.json"))
    tokens = encode(tokenizer, arguments.corpus, arguments.seed)
    numpy.save(arguments.corpus / "tokens.npy", tokens)
    sizes = [path.stat().st_size for path in (arguments.corpus / "train").glob("*.txt")]
    summary = {"vocabulary": tokenizer.get_vocab_size(), "tokens": len(tokens)}
    summary["bytes_per_token"] = sum(sizes) / len(tokens)
    print(json.dumps(summary))
    (arguments.corpus / "tokenizer_report.json").write_text(json.dumps(summary) + "\n")


if __name__ == "__main__":
    main()
