#!/usr/bin/env python3
"""Trains the tokenizers of the test and records what the reference library makes of many strings.

Needs the `tokenizers` package. Writes data/<name>/tokenizer.json, data/<name>/expected.json and
data/versions.json beside this file:

    python make_tokenizer_data.py

The strings come from a generator that string_generator.cc repeats in C++, so that only hashes need
to be stored: one for each block of BLOCK strings, over their ids and their decoded text. The first
NUM_FULL strings are stored in full, with text and ids.
"""

import json
import pathlib
import random
import shutil
import sys

import tokenizers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE / "data"
NUM_STRINGS = 20480
BLOCK = 16
NUM_FULL = 64
MASK = (1 << 64) - 1

# What the generated strings are made of; code points as numbers, ranges as [first, last].
TABLES = json.loads((HERE / "string_tables.json").read_text())
RANGES, MARKS, SPACES, CONTROLS, EMOJI, DIGITS, WORDS, SPECIALS = (
    TABLES[name]
    for name in ("ranges", "marks", "spaces", "controls", "emoji", "digits", "words", "specials")
)


class Generator:
    """splitmix64 (Steele, Lea, Flood 2014), and strings from it."""

    def __init__(self, seed):
        self.state = seed & MASK

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, bound):
        return self.next() % bound

    def pick(self, table):
        return table[self.below(len(table))]

    def from_range(self, first_last):
        first, last = first_last
        return chr(first + self.below(last - first + 1))

    def segment(self):
        kind = self.below(16)
        if kind < 4:
            return self.pick(WORDS)
        if kind == 4:
            return " " + self.pick(WORDS) + " " + self.pick(WORDS)
        if kind == 5:
            script = self.pick(RANGES)
            return "".join(self.from_range(script) for _ in range(1 + self.below(12)))
        if kind == 6:
            return "".join(self.from_range(self.pick(RANGES)) for _ in range(1 + self.below(6)))
        if kind == 7:
            base = self.from_range(self.pick(RANGES))
            return base + "".join(chr(self.pick(MARKS)) for _ in range(1 + self.below(4)))
        if kind == 8:
            return chr(self.pick(SPACES)) * (1 + self.below(5))
        if kind == 9:
            return "".join(chr(self.pick(SPACES)) for _ in range(1 + self.below(10)))
        if kind == 10:
            return "".join(chr(self.pick(DIGITS)) for _ in range(1 + self.below(12)))
        if kind == 11:
            text = chr(self.pick(EMOJI))
            for _ in range(self.below(4)):
                text += self.pick(["\u200d", "", "\ufe0f"]) + chr(self.pick(EMOJI))
            return text
        if kind == 12:
            return chr(self.pick(CONTROLS))
        if kind == 13:
            return (
                self.pick(["", " ", "\n", "a"])
                + self.pick(SPECIALS)
                + self.pick(["", " ", "\n", "b"])
            )
        if kind == 14:
            return chr(0x20 + self.below(0x5F)) * (1 + self.below(40))
        return " "

    def string(self):
        length = 1 + self.below(24) if self.below(8) == 0 else 1 + self.below(6)
        return "".join(self.segment() for _ in range(length))


def strings():
    for index in range(NUM_STRINGS):
        yield Generator(index).string()


def fnv(state, data):
    """FNV-1a, 64 bits."""
    for byte in data:
        state = ((state ^ byte) * 0x100000001B3) & MASK
    return state


def training_text():
    """Code, English and made-up multilingual text; the same on any machine with this Python."""
    import argparse, asyncio.base_events, collections, email.message
    import json.decoder, random as r, textwrap, typing

    modules = [
        argparse,
        asyncio.base_events,
        collections,
        email.message,
        json.decoder,
        r,
        textwrap,
        typing,
    ]
    for module in modules:
        yield from pathlib.Path(module.__file__).read_text().splitlines(keepends=True)
    rng = random.Random(1)
    for _ in range(6000):
        yield " ".join(rng.choice(WORDS) for _ in range(12))


GPT4_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{%s}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(tokenizer, trainer):
    tokenizer.train_from_iterator(training_text(), trainer)
    return tokenizer


def byte_level_trainer(size, specials=()):
    return trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(specials),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )


def gpt2(add_prefix_space):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    train(tokenizer, byte_level_trainer(2500, ["<|endoftext|>"]))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def qwen2():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT4_SPLIT % "1"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    train(tokenizer, byte_level_trainer(2500))
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False, special=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def llama3():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GPT4_SPLIT % "1,3"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    train(tokenizer, byte_level_trainer(2500))
    tokenizer.add_special_tokens(["<|begin_of_text|>", "<|endoftext|>"])
    bos = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A",
                pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                special_tokens=[("<|begin_of_text|>", bos)],
            ),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sentence_piece_vocab(fuse_unk=True):
    """<unk> <s> </s>, the 256 bytes, then what training finds, as converted Llama files have it."""
    specials = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % byte for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=2500, special_tokens=specials, limit_alphabet=160, show_progress=False
    )
    train(tokenizer, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(model["vocab"], merges, unk_token="<unk>", fuse_unk=fuse_unk, byte_fallback=True)
    )
    tokenizer.add_special_tokens(specials[:3])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def mixtral():
    tokenizer = sentence_piece_vocab()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def metaspace(scheme, split):
    tokenizer = sentence_piece_vocab()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def stress():
    """Everything that rarely meets in one file."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"\s{2,}"), " "),
            normalizers.Strip(left=True, right=False),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(r"[\p{P}&&[^_]]"), "merged_with_previous"),
            pre_tokenizers.Split("a", "merged_with_next"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<unk>"],
        limit_alphabet=200,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    train(tokenizer, trainer)
    tokenizer.add_tokens(
        [
            AddedToken("<lstrip>", lstrip=True, normalized=False),
            AddedToken("<rstrip>", rstrip=True, normalized=False),
            AddedToken("<both>", lstrip=True, rstrip=True),
            AddedToken("word", single_word=True, normalized=False),
            AddedToken("Norm", normalized=True),
            AddedToken("é!", normalized=True),
            AddedToken("[PLAIN]", normalized=False),
            AddedToken("<|im_", normalized=False),
            AddedToken("<|im_end|>", special=True, normalized=False),
            AddedToken("  <x>", normalized=False, lstrip=True),
        ]
    )
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    return tokenizer


def words():
    """Word-like cutting with NFD, single_word tokens and the older Metaspace decoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Replace("`", "'")])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<unk>"],
        limit_alphabet=150,
        continuing_subword_prefix="##",
        show_progress=False,
    )
    train(tokenizer, trainer)
    tokenizer.add_tokens(
        [AddedToken("café", single_word=True), AddedToken("NORM", lstrip=True, rstrip=True)]
    )
    tokenizer.add_special_tokens([AddedToken("<s>", rstrip=True), "</s>"])
    tokenizer.post_processor = processors.BertProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>"))
    )
    tokenizer.decoder = decoders.WordPiece("##", cleanup=True)
    return tokenizer


TOKENIZERS = {
    "gpt2": lambda: gpt2(False),
    "gpt2_prefix": lambda: gpt2(True),
    "qwen2": qwen2,
    "llama3": llama3,
    "mixtral": mixtral,
    "metaspace_first": lambda: metaspace("first", False),
    "metaspace_split": lambda: metaspace("always", True),
    "stress": stress,
    "words": words,
}


def expected(tokenizer, texts):
    hashes, full = [], []
    state = 0xCBF29CE484222325
    for index, text in enumerate(texts):
        ids = tokenizer.encode(text).ids
        kept = tokenizer.decode(ids, skip_special_tokens=False)
        skipped = tokenizer.decode(ids, skip_special_tokens=True)
        state = fnv(state, b"".join(token.to_bytes(4, "little") for token in ids))
        state = fnv(state, b"|" + kept.encode() + b"|" + skipped.encode() + b"\n")
        if index % BLOCK == BLOCK - 1:
            hashes.append("%016x" % state)
            state = 0xCBF29CE484222325
        if index < NUM_FULL:
            full.append({"text": text, "ids": ids, "decoded": kept, "skipped": skipped})
    return {"num_strings": NUM_STRINGS, "block": BLOCK, "full": full, "hashes": hashes}


# Expressions of public tokenizers, and constructs on which Oniguruma and PCRE2 differ.
EXPRESSIONS = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    GPT4_SPLIT % "1",
    GPT4_SPLIT % "1,3",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s*[\r\n]|\s+(?!\S)|\s+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"\p{N}{1,3}",
    r"\p{N}",
    r"\s{2,}",
    r"\s",
    r"\S+",
    r"\w+",
    r"\W+",
    r"[\W\d]+",
    r"[^\W_]+",
    r"\d+",
    r"\D",
    r"\h+",
    r"\H+",
    r"[\h]+",
    r"\b",
    r"\B",
    r"\v",
    r"^",
    r"$",
    r"^.",
    r".$",
    r"(?m:.+)",
    r".+",
    r"(?mi)T.",
    r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+",
    r"[\p{Han}]+",
    r"\p{Hiragana}+",
    r"\p{Greek}+|\p{Hebrew}+",
    r"\p{Arabic}+",
    r"\p{^L}+",
    r"\P{L}+",
    r"[\P{L}]+",
    r"[^\p{^L}]+",
    r"[[a-z][0-9]]+",
    r"[a-z&&[^aeiou]]+",
    r"[^a-z&&[^aeiou]]",
    r"[[:punct:]]+",
    r"[[:digit:]]+",
    r"[[:^space:]]+",
    r"[[:word:]]+",
    r"\p{Letter}+",
    r"\p{Uppercase_Letter}",
    r"\p{Punct}",
    r"[]a]+",
    r"a{2}",
    r"a{,3}",
    r"a{2,3}+",
    r"(?:ab){2}?",
    r"a{2}?",
    r"a{",
    r"a{x}",
    r"x*",
    r"(?<=a).",
    r"(?<!\s)\s",
    r"(?=b)",
    r"(?>a+)b?",
    r"(a)(?i)b|c",
    r"(?i)straße|k|s",
    r"\u00e9|\x41",
    r"[\u4e00-\u9fff]+",
    r"(?<word>[ab])\k<word>",
    r"(a|b)\1",
    r"\R",
    r"\A.|.\z|.\Z",
    r"(?#comment)e",
    "",
    r"[\-\]\^]",
    r"[\n\t\x20]+",
    r"\p{Word}+",
    r"\p{M}+",
    r"\p{S}+",
    r"\p{P}+",
    r"\p{C}+",
    r"\p{Z}+",
]


def cut_hashes(texts):
    """For each expression a hash of the pieces that it cuts the texts into."""
    rows = []
    for expression in EXPRESSIONS:
        split = pre_tokenizers.Split(Regex(expression), "isolated")
        state = 0xCBF29CE484222325
        for text in texts:
            for piece, _ in split.pre_tokenize_str(text):
                state = fnv(state, piece.encode() + b"|")
        rows.append({"expression": expression, "hash": "%016x" % state})
    return {"num_strings": len(texts), "rows": rows}


def main():
    texts = list(strings())
    names = sys.argv[1:] or list(TOKENIZERS)
    for name in names:
        folder = DATA / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tokenizer = TOKENIZERS[name]()
        document = json.loads(tokenizer.to_str())
        (folder / "tokenizer.json").write_text(
            json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
        )
        reloaded = Tokenizer.from_file(str(folder / "tokenizer.json"))
        (folder / "expected.json").write_text(
            json.dumps(expected(reloaded, texts), separators=(",", ":")).replace(
                '{"text"', '\n{"text"'
            )
            + "\n"
        )
        print(name, reloaded.get_vocab_size(), "tokens")
    (DATA / "expressions.json").write_text(
        json.dumps(cut_hashes(texts[:500]), ensure_ascii=False).replace(
            '{"expression"', '\n{"expression"'
        )
        + "\n"
    )
    (DATA / "versions.json").write_text(
        json.dumps({"tokenizers": tokenizers.__version__, "python": sys.version.split()[0]}) + "\n"
    )


if __name__ == "__main__":
    main()
