#!/usr/bin/env python3
"""Held-out bits per byte of an exported model, through transformers, and twenty continuations.

Protocol. heldout/<domain>.txt holds documents separated by one form feed. Each document is encoded
by itself, without special tokens, and cut into windows as long as the model's context that do not
overlap (the last may be shorter). The model's input for a window of tokens t1..tn is <|endoftext|>
t1..tn-1, its targets are t1..tn. Bits per byte: the sum of -log2 p(target) over all windows of all
documents, divided by the bytes of the documents (without separators). Weights as stored (bf16),
arithmetic in f32. `pregate eval --weights f32 --window-tokens CONTEXT` does the same.

Beside it, on the same bytes: xz -9e of the file, the entropy of single bytes, and a unigram model
of tokens (frequencies of the training text, one added to each count). Overall xz is the smaller of
one file per domain and all domains in one.
"""

import argparse
import json
import lzma
import math
import pathlib
import time

import numpy
import torch
import transformers
from tokenizers import Tokenizer

import data
from tokenizer import END_OF_TEXT, documents, domains

BATCH = 4
PROMPTS, PROMPT_WORDS, NEW_TOKENS = 20, 8, 48
SAMPLING = dict(do_sample=True, temperature=0.8, top_p=0.95)
XZ = dict(format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, preset=9 | lzma.PRESET_EXTREME)


@torch.no_grad()
def bits(net, end, windows):
    """The sum of -log2 p of windows of the same length."""
    targets = torch.tensor(windows, device=net.device)
    logits = net(data.shifted(targets, end), use_cache=False).logits.float().flatten(0, 1)
    nats = torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum")
    return float(nats) / math.log(2)


def batches(windows, length):
    """Full windows some at a time, the others one by one."""
    full = [each for each in windows if len(each) == length]
    yield from (full[start : start + BATCH] for start in range(0, len(full), BATCH))
    yield from ([each] for each in windows if len(each) < length)


def byte_entropy_bits(raw):
    """Bits of a code of single bytes that knows their frequencies in this very text."""
    counts = numpy.bincount(numpy.frombuffer(raw, dtype=numpy.uint8), minlength=256)
    shares = counts[counts > 0] / len(raw)
    return float(-(counts[counts > 0] * numpy.log2(shares)).sum())


def evaluate_domain(net, tokenizer, unigram, texts, progress):
    """Sums over the documents of one domain."""
    end, length = tokenizer.token_to_id(END_OF_TEXT), net.config.max_position_embeddings
    total = dict(documents=len(texts), bytes=0, tokens=0, bits=0.0, token_unigram_bits=0.0)
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        total["bytes"] += len(text.encode())
        total["tokens"] += len(ids)
        windows = data.windows(ids, length)
        total["bits"] += sum(bits(net, end, each) for each in batches(windows, length))
        total["token_unigram_bits"] += float(unigram[ids].sum())
        progress(total)
    raw = "\f".join(texts).encode()
    total["xz_bits"] = 8 * len(lzma.compress(raw, **XZ))
    total["byte_unigram_bits"] = byte_entropy_bits(raw)
    return total


def overall(results, corpus):
    """The sums over the domains; xz also of all in one."""
    total = {
        key: sum(each[key] for each in results.values()) for key in next(iter(results.values()))
    }
    raw = b"".join((corpus / f"heldout/{domain}.txt").read_bytes() for domain in results)
    total["xz_one_file_bits"] = 8 * len(lzma.compress(raw, **XZ))
    total["byte_unigram_bits"] = byte_entropy_bits(raw)
    best = min(total["xz_bits"], total["xz_one_file_bits"])
    total["better_than_xz"] = 1 - total["bits"] / best
    return total


def per_byte(entry):
    """Adds bits per byte beside each number of bits."""
    for key in [key for key in entry if key.endswith("bits")]:
        entry[f"{key}_per_byte"] = round(entry[key] / entry["bytes"], 4)
    return entry


def prompts(corpus):
    """The first eight words of the first held-out documents of each domain, in turn."""
    found, k = [], 0
    while len(found) < PROMPTS:
        for domain in domains(corpus):
            texts = documents(corpus / f"heldout/{domain}.txt")
            if k < len(texts) and len(found) < PROMPTS:
                found.append((domain, k, " ".join(texts[k].split()[:PROMPT_WORDS])))
        k += 1
    return found


def continuations(net, tokenizer, corpus):
    """Greedy, and one sample with the seed 1, as they come."""
    end, out = tokenizer.token_to_id(END_OF_TEXT), []
    for domain, k, prompt in prompts(corpus):
        text = tokenizer.encode(prompt, add_special_tokens=False).ids
        ids = torch.tensor([[end] + text], device=net.device)
        entry = dict(domain=domain, document=k, prompt=prompt)
        for name, how in (("greedy", dict(do_sample=False)), ("sampled", SAMPLING)):
            torch.manual_seed(1)
            settings = transformers.GenerationConfig(
                max_new_tokens=NEW_TOKENS, eos_token_id=end, pad_token_id=end + 1, **how
            )
            mask = torch.ones_like(ids)
            made = net.generate(ids, attention_mask=mask, generation_config=settings)
            entry[name] = tokenizer.decode(made[0, ids.shape[1] :].tolist())
        out.append(entry)
    return out


def unigram_bits(corpus, vocabulary):
    """-log2 of each token's share of the training text."""
    counts = numpy.bincount(numpy.load(corpus / "tokens.npy"), minlength=vocabulary) + 1.0
    return -numpy.log2(counts / counts.sum())


def evaluate(folder, corpus, device):
    """The whole report."""
    net = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    net = net.to(device).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    unigram, results = unigram_bits(corpus, tokenizer.get_vocab_size()), {}
    start = time.time()
    for domain in domains(corpus):

        def progress(total):
            rate = sum(each["tokens"] for each in (*results.values(), total))
            rate /= time.time() - start
            print(f"\r{domain} {total['tokens']} tokens {rate:.0f}/s  ", end="", flush=True)

        texts = documents(corpus / f"heldout/{domain}.txt")
        results[domain] = evaluate_domain(net, tokenizer, unigram, texts, progress)
        measured = results[domain]["bits"] / results[domain]["bytes"]
        print(f"{measured:.4f} bits per byte", flush=True)
    total = per_byte(overall(results, corpus))
    return dict(
        window=net.config.max_position_embeddings,
        overall=total,
        domains={domain: per_byte(each) for domain, each in results.items()},
        sampling=SAMPLING,
        continuations=continuations(net, tokenizer, corpus),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="the exported folder")
    parser.add_argument("--corpus", type=pathlib.Path, required=True, help="made by corpus.py")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the report, JSON")
    parser.add_argument("--threads", type=int, help="on a CPU (default: all)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    report = evaluate(arguments.model, arguments.corpus, device)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    total = report["overall"]
    print(
        f"overall {total['bits_per_byte']:.4f} bits per byte, "
        f"{100 * total['better_than_xz']:.1f} % better than xz -9e"
    )


if __name__ == "__main__":
    main()
