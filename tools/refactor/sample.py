#!/usr/bin/env python3
"""Takes documents of each domain's training text, evenly spaced, for the statistics."""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "train"))

from tokenizer import documents, domains  # noqa: E402

FORM_FEED = "\f"


def sample(texts, size):
    """Every n-th document, so that they have about `size` characters together."""
    step = max(1, round(sum(map(len, texts)) / size))
    return texts[::step]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=pathlib.Path, required=True, help="of tools/train")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for DOMAIN.txt")
    parser.add_argument("--characters", type=int, default=200000, help="of a domain (%(default)s)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for domain in domains(arguments.corpus):
        texts = sample(documents(arguments.corpus / f"train/{domain}.txt"), arguments.characters)
        text = FORM_FEED.join(texts)
        (arguments.out / f"{domain}.txt").write_text(text, encoding="utf-8", newline="")
        print(f"{domain}: {len(texts)} documents, {len(text)} characters")


if __name__ == "__main__":
    main()
