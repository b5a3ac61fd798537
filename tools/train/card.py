#!/usr/bin/env python3
"""Writes a model's README.md from what the recipe recorded: corpus, training log, evaluation."""

import argparse
import json
import pathlib

DOMAIN_NOTES = {
    "c": "C source of the Linux kernel",
    "dictionary": "GCIDE, WordNet, FOLDOC, Jargon File, Devil's Dictionary, MyThes thesaurus",
    "docs": "manuals of Python, Linux, PostgreSQL, Vim, Perl, Node.js, Git, Debian policy",
    "literature": "King James Bible, Jane Austen, An Anarchist FAQ, stories of Endless Sky",
    "man": "manual pages, as a terminal shows them",
    "notices": "licences and changelogs",
    "python": "Python source: standard library, Django, NetworkX, SymPy",
}
LICENCES = """The text comes from Debian 12's `main`, free software all of it, under its packages'
own licences, among them: Linux GPL-2; Python and its manual PSF-2; Django, SymPy and NetworkX
BSD-3-Clause; PostgreSQL's manual the PostgreSQL licence; Vim's manual the Vim licence and OPL; Perl
GPL-1+ or Artistic; Node.js MIT; Git GPL-2; Debian policy GPL-2+; GCIDE GPL-3+; WordNet and MyThes
the WordNet licence; FOLDOC GFDL; King James Bible, Jane Austen, the Jargon File and the Devil's
Dictionary public domain; An Anarchist FAQ GFDL or GPL-2+; Endless Sky GPL-3+; manual pages under
many (GPL, BSD, MIT, verbatim). Each package's `/usr/share/doc/<package>/copyright` says exactly. No
text is in this folder, only weights and a vocabulary trained on it."""


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _text(path):
    return path.read_text(encoding="utf-8") if path.exists() else ""


def engine_sentence(report, engine):
    """How near `pregate eval` comes; empty where it was not run."""
    if not engine:
        return ""
    ours, theirs = engine["all"]["bits_per_byte"], report["overall"]["bits_per_byte"]
    farthest = max(
        abs(engine["texts"][name]["bits_per_byte"] * each["bytes"] / each["bits"] - 1)
        for name, each in report["domains"].items()
    )
    return (
        f"\n\n`pregate eval --weights f32 --window-tokens {report['window']}` on the same files: "
        f"{ours:.4f} bits per byte overall, transformers {theirs:.4f}; the domains differ by at "
        f"most {100 * farthest:.3f} %."
    )


def routing_section(page):
    """What `pregate trace` measured; empty where it was not run."""
    if not page:
        return ""
    return f"""## Routing

On the held-out text of `bench/traces` (which says how much and how to read it), by `pregate trace`;
`pregate trace-summary bench/traces/*.safetensors` prints it again.

```
{page.strip()}
```

"""


def results(report):
    """The table of bits per byte."""
    out = ["| domain | documents | bytes | this model | xz -9e | bytes alone | tokens alone |"]
    out.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    total = report["overall"]
    for name, each in (*report["domains"].items(), ("all", total)):
        xz = each["xz_bits_per_byte"]
        if name == "all":
            xz = min(xz, each["xz_one_file_bits_per_byte"])
        row = [name, each["documents"], each["bytes"], f"{each['bits_per_byte']:.3f}"]
        row += [f"{xz:.3f}", f"{each['byte_unigram_bits_per_byte']:.3f}"]
        row.append(f"{each['token_unigram_bits_per_byte']:.3f}")
        out.append("| " + " | ".join(map(str, row)) + " |")
    share = 100 * total["better_than_xz"]
    verdict = f"{share:.1f} % fewer" if share >= 0 else f"{-share:.1f} % more"
    out += ["", f"Overall {verdict} bits than `xz -9e` (the better of one file per domain and one"]
    out += ["file of all). `bytes alone` is the entropy of single bytes, `tokens alone` a unigram"]
    out += ["model of tokens with the training text's frequencies."]
    return "\n".join(out)


def corpus_tables(corpus):
    """What was taken, and the versions of the packages."""
    out = ["| domain | text | training bytes | held-out bytes |", "| --- | --- | ---: | ---: |"]
    for domain, sources in sorted(corpus["domains"].items()):
        sizes = [sum(each[side]["bytes"] for each in sources.values()) for side in SIDES]
        out.append(f"| {domain} | {DOMAIN_NOTES[domain]} | {sizes[0]} | {sizes[1]} |")
    packages = ", ".join(f"{name} {version}" for name, version in corpus["packages"].items())
    return "\n".join(out) + f"\n\nPackages: {packages}."


SIDES = ("train", "heldout")


def training(log, tokenizer, note):
    """How it went, in a few sentences, and the curve."""
    last, probes = log[-1], [each for each in log if "heldout_bits_per_byte" in each]
    seen, batch = last["before"] + last["tokens"], last["tokens"] // last["step"]
    before = f"This run went on from a model of {last['before'] / 1e6:.2f} million: "
    fall = "from the beginning" if last["before"] else "from 45 % of the budget on"
    out = [
        f"{seen / 1e6:.2f} million tokens in all, of the {tokenizer['tokens'] / 1e6:.1f} million "
        f"in the corpus, {tokenizer['bytes_per_token']:.2f} bytes each. "
        + (before if last["before"] else "")
        + f"{last['step']} steps of {batch} tokens in {last['seconds'] / 60:.0f} minutes on "
        f"{last['machine']}. "
        "Embedding and output begin as a bigram model fitted to the whole training "
        f"text. Muon for the matrices, Adam for the rest; the rate falls {fall}; "
        f"rows of 512, 1024, then 2048 tokens. {note}".rstrip(),
    ]
    if not probes:
        return out[0]
    out += [
        "",
        "| step | million tokens | training loss (nats per token) "
        "| held-out probe (bits per byte) |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for each in probes:
        probe, millions = each["heldout_bits_per_byte"], (each["before"] + each["tokens"]) / 1e6
        out.append(f"| {each['step']} | {millions:.2f} | {each['loss']:.3f} | {probe:.3f} |")
    return "\n".join(out)


def continuations(report):
    """The prompts with what the model said, verbatim."""
    out = []
    for i, each in enumerate(report["continuations"], 1):
        out.append(f"**{i}. {each['domain']}, document {each['document']}**\n")
        for name in ("prompt", "greedy", "sampled"):
            text = each[name].replace("```", "'''")
            out.append(f"{name}:\n```\n{text}\n```\n")
    return "\n".join(out)


def shape_line(config):
    """The architecture in a sentence."""
    line = f"{config['architectures'][0]}: {config['num_hidden_layers']} layers, hidden size "
    line += f"{config['hidden_size']}, {config['num_attention_heads']} heads, "
    if "num_experts" in config:
        line += f"{config['num_experts']} experts of {config['intermediate_size']}, "
        line += f"{config['num_experts_per_tok']} per token, "
    else:
        line += f"dense MLP of {config['intermediate_size']}, "
    return line + f"vocabulary {config['vocab_size']}, context {config['max_position_embeddings']}."


def card(folder, corpus, run, note):
    """The README's text."""
    config = json.loads((folder / "config.json").read_text())
    report = json.loads((run / "report.json").read_text())
    log = _lines(run / "log.jsonl")
    engine = json.loads(_text(run / "engine.json") or "null")
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    summary = json.loads((corpus / "corpus.json").read_text())
    dropped = summary["dropped"]
    return f"""# {folder.name}

A very small language model that ships with Pregate, so that a fresh clone has a trained model to
serve. {shape_line(config)} {megabytes:.1f} MB in bf16. Made by `tools/train`.

## Limits

It has seen little text and knows next to nothing. It continues text in the manner of its domains;
it does not answer questions, follow instructions or chat (the chat template exists, its tokens were
never trained), and what it says is not true but by accident. English, C and Python only. Positions
beyond {config['max_position_embeddings']} were never trained.

## Results on held-out text, bits per byte

{results(report)}

Each held-out document is encoded alone and cut into windows of {report['window']} tokens that
do not overlap; the input of a window t1..tn is `<|endoftext|>` t1..tn-1 and its targets are t1..tn.
Bits per byte is the sum of -log2 p(target) over all documents, over their bytes. Weights bf16 as
stored, arithmetic f32, transformers.{engine_sentence(report, engine)}

{routing_section(_text(run / "routing.txt"))}## Data

{corpus_tables(summary)}

A paragraph of 50 characters or more that appeared before in any domain is dropped
({dropped['paragraphs']} were), and so is a document of which over 40 % of the sampled eight-word
runs appeared before ({dropped['documents']} dropped, those too short or no text included). The
held-out part is taken by a hash of the document's name and read first, so training text holds none
of its paragraphs. Dictionaries, changelogs, novels and stories are cut into documents of about
12,000 characters, of which neighbours can fall on different sides.

{LICENCES}

## Training

{training(log, json.loads((corpus / 'tokenizer_report.json').read_text()), note)}

## Prompts and continuations, as they come

The first eight words of the first held-out documents of each domain, 48 new tokens; greedy, and one
sample at temperature {report['sampling']['temperature']}, top-p {report['sampling']['top_p']},
seed 1.

{continuations(report)}"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="the exported folder")
    parser.add_argument("--corpus", type=pathlib.Path, required=True)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="log.jsonl, report.json")
    parser.add_argument("--note", default="", help="what else there is to say of the training")
    arguments = parser.parse_args()
    text = card(arguments.model, arguments.corpus, arguments.run, arguments.note)
    (arguments.model / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
