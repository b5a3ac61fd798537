"""Clean text, no paragraph twice, and a held-out part that shares no document with the rest."""

import hashlib
import re
import zlib

MIN_DOCUMENT_BYTES = 300
MAX_DOCUMENT_CHARS = 60_000
MIN_PARAGRAPH_CHARS = 50
SHINGLE_WORDS = 8
# One shingle in so many is kept, by its hash; enough to estimate how much was seen before.
SHINGLE_SAMPLE = 16
MAX_SEEN_SHARE = 0.4
HELDOUT_SHARE = 0.075
# The separator of documents in a file; no document contains it.
SEPARATOR = "\f"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffd]")


def normalise(text):
    """Unix line ends, no control characters, no trailing blanks, at most one empty line."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    text = _CONTROL.sub("", text)
    text = re.sub(r"[ \t\u00a0]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\n{3,}", "\n\n", text).strip("\n")
    if len(text) > MAX_DOCUMENT_CHARS:
        text = text[: text.rfind("\n", 0, MAX_DOCUMENT_CHARS)]
    return text


def is_prose_or_code(text):
    """False for tables of numbers, other scripts than Latin, and what is too short to be one."""
    size = len(text)
    if len(text.encode()) < MIN_DOCUMENT_BYTES:
        return False
    digits = sum(map(text.count, "0123456789"))
    foreign = len(re.findall(r"[^\x00-\x7f]", text))
    letters = len(re.findall(r"[A-Za-z]", text))
    return digits < 0.15 * size and foreign < 0.05 * size and letters > 0.4 * size


def place(name):
    """A number in [0, 1) that depends on the document's name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big") / 2**56


def is_heldout(name):
    """The split: by document, by name."""
    return place(name) < HELDOUT_SHARE


def _shingle_sample(text):
    """Hashes of some runs of eight words; the same runs are chosen in every document."""
    words = text.lower().split()
    runs = (" ".join(words[i : i + SHINGLE_WORDS]) for i in range(len(words) - SHINGLE_WORDS + 1))
    hashes = (zlib.crc32(run.encode()) for run in runs)
    return {value for value in hashes if value % SHINGLE_SAMPLE == 0}


class Seen:
    """What earlier documents said. Give it the held-out part first: training then gets the rest."""

    def __init__(self):
        self._paragraphs = set()
        self._shingles = set()
        self.dropped_paragraphs = 0
        self.dropped_documents = 0

    def _is_new(self, paragraph):
        plain = " ".join(paragraph.split())
        if len(plain) < MIN_PARAGRAPH_CHARS:
            return True
        key = hashlib.blake2b(plain.encode(), digest_size=8).digest()
        if key in self._paragraphs:
            self.dropped_paragraphs += 1
            return False
        self._paragraphs.add(key)
        return True

    def filter(self, text):
        """`text` without paragraphs seen before, or None if little of it is new."""
        paragraphs = text.split("\n\n")
        text = normalise("\n\n".join(filter(self._is_new, paragraphs)))
        if not is_prose_or_code(text):
            self.dropped_documents += 1
            return None
        shingles = _shingle_sample(text)
        if len(shingles & self._shingles) > MAX_SEEN_SHARE * len(shingles):
            self.dropped_documents += 1
            return None
        self._shingles |= shingles
        return text
