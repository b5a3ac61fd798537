"""Which files of which packages make a domain, and how much is taken of each source."""

import functools
from typing import Callable, NamedTuple

import readers

DICTIONARY_ENTRY = r"^(?=\S)"
CHANGE_ENTRY = r"^(?=\S)"


class Source(NamedTuple):
    """list_documents(folder of packages) gives (name, text or a function that reads it)."""

    name: str
    megabytes: float
    list_documents: Callable


def _files(patterns, reader=readers.read, without=()):
    """Each file that matches is a document; `patterns` begin with the package's name."""

    def list_documents(root):
        paths = sorted({path for pattern in patterns for path in root.glob(pattern)})
        for path in paths:
            name = str(path.relative_to(root))
            if path.is_file() and not path.is_symlink() and not any(w in name for w in without):
                yield name, functools.partial(reader, path)

    return list_documents


def _cut(patterns, start, reader=readers.read, size=readers.PIECE_CHARS):
    """Long files, cut into documents before lines that match `start`."""

    def list_documents(root):
        for name, load in _files(patterns, reader)(root):
            yield from readers.pieces(name, load(), start, size)

    return list_documents


def _dictd(package):
    return _cut([f"dict-{package}/usr/share/dictd/{package}.dict.dz"], DICTIONARY_ENTRY)


def _manual_pages(root):
    mandoc = root / "mandoc/usr/bin/mandoc"
    reader = functools.partial(readers.man_text, mandoc=mandoc)
    return _files(["*/usr/share/man/man[1-8]/*.gz"], reader)(root)


def _austen(root):
    novels = readers.austen(root / "r-cran-janeaustenr/usr/lib/R/site-library/janeaustenr/data")
    for title, text in novels.items():
        yield from readers.pieces(title, text, r"^$")


def _bible(root):
    return readers.bible(root / "bible-kjv/usr/bin/bible", root / "bible-kjv-text/usr/lib/")


KERNEL_PARTS = ("block", "crypto", "fs", "kernel", "lib", "mm", "net", "security")
KERNEL = "linux-source-6.1/usr/src/linux-source-6.1"
PYTHON = "usr/lib/python3/dist-packages"
DOC = "usr/share/doc"

DOMAINS = {
    "docs": [
        Source("Python manual", 3, _files(["python3.11-doc/**/_sources/**/*.txt*"])),
        Source(
            "Linux documentation",
            3,
            _files([f"{KERNEL}/Documentation/**/*.rst"], without=("translations",)),
        ),
        Source(
            "PostgreSQL manual", 2.5, _files(["postgresql-doc-15/**/*.html"], readers.html_text)
        ),
        Source("Vim manual", 1.5, _files(["vim-runtime/**/doc/*.txt"])),
        Source("Perl manual", 2, _files(["perl-doc/**/*.pod"])),
        Source("Node.js manual", 1, _files(["nodejs-doc/**/api/*.md*"])),
        Source("Git manual", 1, _files(["git-doc/**/*.txt*"], without=("RelNotes",))),
        Source(
            "Debian policy",
            1,
            _files(["debian-policy/**/_sources/*", "developers-reference/**/_sources/*"]),
        ),
    ],
    "man": [Source("manual pages", 12, _manual_pages)],
    "dictionary": [
        Source("GCIDE", 5, _dictd("gcide")),
        Source("WordNet", 3, _dictd("wn")),
        Source("FOLDOC", 2, _dictd("foldoc")),
        Source("Jargon File", 1, _dictd("jargon")),
        Source(
            "Devil's Dictionary",
            0.5,
            _cut(["dict-devil/usr/share/dictd/devil.dict.dz"], r"^(?=[A-Z]{3})"),
        ),
        Source(
            "MyThes thesaurus",
            2,
            _cut(
                ["mythes-en-us/usr/share/mythes/th_en_US_v2.dat"],
                DICTIONARY_ENTRY,
                readers.thesaurus,
            ),
        ),
    ],
    "literature": [
        Source("King James Bible", 5, _bible),
        Source("Jane Austen's novels", 5, _austen),
        Source("An Anarchist FAQ", 3.5, _files(["anarchism/**/sec*.html"], readers.html_text)),
        Source(
            "Endless Sky's stories",
            1.5,
            _cut(["endless-sky-data/**/data/**/*.txt"], r"^$", readers.dialogue),
        ),
    ],
    "c": [
        Source(
            "Linux",
            12,
            _files([f"{KERNEL}/{part}/**/*.c" for part in KERNEL_PARTS]),
        ),
    ],
    "python": [
        Source("standard library", 5, _files(["libpython3.11-stdlib/**/*.py"])),
        Source("Django", 3, _files([f"python3-django/{PYTHON}/**/*.py"])),
        Source("NetworkX", 2, _files([f"python3-networkx/{PYTHON}/**/*.py"])),
        Source("SymPy", 3, _files([f"python3-sympy/{PYTHON}/**/*.py"])),
    ],
    "notices": [
        Source("licences", 4, _files([f"*/{DOC}/*/copyright"])),
        Source("Debian changelogs", 3, _cut([f"*/{DOC}/*/changelog.Debian.gz"], CHANGE_ENTRY)),
        Source("changelogs", 4, _cut([f"*/{DOC}/*/changelog.gz"], CHANGE_ENTRY)),
    ],
}
