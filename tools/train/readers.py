"""From the files of packages to documents: (name, text) pairs."""

import gzip
import html.parser
import pathlib
import re
import subprocess
import zlib

PIECE_CHARS = 12_000


def read(path):
    """The text of a file, compressed or not; Latin-1 where it is no UTF-8."""
    data = pathlib.Path(path).read_bytes()
    if path.name.endswith((".gz", ".dz")):
        data = gzip.decompress(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def pieces(name, text, start, size=PIECE_CHARS):
    """Cuts a long file into documents of about `size`, before lines that match `start`."""
    cuts, last = [0], 0
    for match in re.finditer(start, text, re.MULTILINE):
        if match.start() - last >= size:
            last = match.start()
            cuts.append(last)
    cuts.append(len(text))
    return [(f"{name}#{i}", text[a:b]) for i, (a, b) in enumerate(zip(cuts, cuts[1:]))]


class _Html(html.parser.HTMLParser):
    """Keeps what a page says and drops its scripts, styles and navigation."""

    BLOCKS = {"p", "div", "li", "tr", "h1", "h2", "h3", "h4", "dt", "dd", "br", "table", "ul"}
    BLOCKS |= {"ol", "section", "blockquote"}
    SKIPPED = {"script", "style", "head", "nav"}

    def __init__(self):
        super().__init__()
        self.out, self.skipped, self.verbatim = [], 0, 0

    def handle_starttag(self, tag, attrs):
        self.skipped += tag in self.SKIPPED
        self.verbatim += tag == "pre"
        if tag in self.BLOCKS or tag == "pre":
            self.out.append("\n" if tag in ("br", "li", "tr", "dt", "dd") else "\n\n")

    def handle_endtag(self, tag):
        self.skipped -= tag in self.SKIPPED and self.skipped > 0
        self.verbatim -= tag == "pre" and self.verbatim > 0
        if tag in ("p", "h1", "h2", "h3", "h4", "pre"):
            self.out.append("\n\n")

    def handle_data(self, data):
        if not self.skipped:
            self.out.append(data if self.verbatim else re.sub(r"\s+", " ", data))


def html_text(path):
    """What a page says, a paragraph a block."""
    parser = _Html()
    parser.feed(read(path))
    lines = "".join(parser.out).split("\n")
    return "\n".join(line[1:] if line[:1] == " " and line[1:2] != " " else line for line in lines)


def man_text(path, mandoc):
    """A manual page as a terminal shows it."""
    shown = subprocess.run(
        [mandoc, "-T", "utf8", "-O", "width=78"],
        input=read(path).encode(),
        capture_output=True,
        check=False,
    )
    text = shown.stdout.decode("utf-8", "replace")
    text = re.sub(r".\x08", "", text)
    lines = text.strip("\n").split("\n")
    return "\n".join(lines[1:-1])  # Without the running head and foot.


def thesaurus(path):
    """MyThes' table as lines that a person would write: word (class): synonym, synonym."""
    out = []
    for line in read(path).split("\n")[1:]:
        word_class, _, synonyms = line.partition("|")
        if word_class.startswith("("):
            out.append(f"    {word_class} {synonyms.replace('|', ', ')}")
        elif word_class:
            out.append(word_class)
    return "\n".join(out)


def austen(folder):
    """{novel: text} of the R package: character vectors in R's serialized form."""
    data = (folder / "Rdata.rdb").read_bytes()
    offset, novels = 0, {}
    while offset < len(data):
        stream = zlib.decompressobj()
        raw = stream.decompress(data[offset + 4 :])
        offset = len(data) - len(stream.unused_data)
        lines = re.findall(rb"\x00\x04\x00\t(....)", raw, re.DOTALL)
        if len(lines) > 1000:
            text = "\n".join(_strings(raw))
            novels[next(line for line in text.split("\n") if line).title()] = text
    return novels


def _strings(raw):
    """The strings of R's serialized character vector, in order."""
    offset = raw.index(b"\x00\x04\x00\t")
    while raw[offset : offset + 1] == b"\x00" and raw[offset + 2 : offset + 4] == b"\x00\t":
        length = int.from_bytes(raw[offset + 4 : offset + 8], "big")
        yield raw[offset + 8 : offset + 8 + length].decode("utf-8", "replace")
        offset += 8 + length


def bible(program, data_folder):
    """[(chapter, text)] of the King James Version, by the package's own reader."""
    shown = subprocess.run(
        [program, "-f", "-p", data_folder, "gen1:1-rev22:21"],
        input=b"",
        capture_output=True,
        check=True,
    )
    chapters = {}
    for line in shown.stdout.decode().split("\n"):
        reference, _, verse = line.partition(" ")
        if ":" in reference:
            chapters.setdefault(reference.split(":")[0], []).append(verse)
    return [(f"kjv/{chapter}", "\n".join(verses)) for chapter, verses in chapters.items()]


def dialogue(path):
    """What is told and said in a game's script: the lines between backquotes."""
    return "\n\n".join(re.findall(r"`\s*([^`\n]{20,})`", read(path)))
