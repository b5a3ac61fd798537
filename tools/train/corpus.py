#!/usr/bin/env python3
"""Builds the corpus from the pinned Debian packages: train/<domain>.txt, heldout/<domain>.txt.

Documents are separated by one form feed. corpus.json says what was taken, package by package.
The same packages give the same bytes.
"""

import argparse
import json
import pathlib

import clean
import packages
from domains import DOMAINS

HELDOUT_BYTES = 1_000_000


def _take(source, domain, root, heldout, seen):
    """(name, text) of one side of the split, in the order of their hashes, up to the share."""
    share = clean.HELDOUT_SHARE if heldout else 1 - clean.HELDOUT_SHARE
    room = source.megabytes * 1e6 * share
    documents = [
        (f"{domain}/{name}", text)
        for name, text in source.list_documents(root)
        if clean.is_heldout(f"{domain}/{name}") == heldout
    ]
    for name, text in sorted(documents, key=lambda document: clean.place(document[0])):
        text = seen.filter(clean.normalise(text() if callable(text) else text))
        if text is None:
            continue
        room -= len(text.encode())
        if room < 0:
            break
        yield name, text


def _build_side(root, out, heldout, seen, report):
    """Writes one file per domain; adds its numbers to the report."""
    side = "heldout" if heldout else "train"
    (out / side).mkdir(parents=True, exist_ok=True)
    for domain, sources in DOMAINS.items():
        texts = []
        for source in sources:
            taken = list(_take(source, domain, root, heldout, seen))
            size = sum(len(text.encode()) for _, text in taken)
            print(f"{side:8}{domain:12}{source.name:24}{len(taken):6} documents {size:10} bytes")
            entry = report.setdefault(domain, {}).setdefault(source.name, {})
            entry[side] = {"documents": len(taken), "bytes": size}
            texts += taken
        # In an order that does not follow the sources.
        texts.sort(key=lambda document: clean.place("order/" + document[0]))
        joined = clean.SEPARATOR.join(text for _, text in texts)
        (out / side / f"{domain}.txt").write_text(joined, encoding="utf-8", newline="\n")
        names = "".join(f"{name}\n" for name, _ in texts)
        (out / side / f"{domain}.names").write_text(names, encoding="utf-8")


def build(work, out):
    """The whole corpus; the held-out side first, so that nothing of it comes back in training."""
    root = packages.fetch(work)
    seen, report = clean.Seen(), {}
    _build_side(root, out, True, seen, report)
    _build_side(root, out, False, seen, report)
    summary = {
        "packages": dict(packages.pinned()),
        "domains": report,
        "dropped": {"paragraphs": seen.dropped_paragraphs, "documents": seen.dropped_documents},
    }
    (out / "corpus.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="packages go here")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the corpus goes here")
    arguments = parser.parse_args()
    build(arguments.work, arguments.out)


if __name__ == "__main__":
    main()
