#!/usr/bin/env python3
"""The corpus of tools/train: cleaning, what is dropped as a copy, the split. No packages needed."""

import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools/train"))

import clean  # noqa: E402
import corpus  # noqa: E402
import domains  # noqa: E402
import packages  # noqa: E402
import readers  # noqa: E402


def prose(topic, paragraphs=6):
    """A document of which no paragraph is like another's."""
    return "\n\n".join(
        " ".join(f"{topic}{word} says {paragraph}th" for word in "abcdefghijklmnop")
        for paragraph in "uvwxyz"[:paragraphs]
    )


class Cleaning(unittest.TestCase):
    def test_ends_of_lines_and_control_characters(self):
        self.assertEqual(clean.normalise("a \r\nb\x00\x07\t\rc\n\n\n\nd\n"), "a\nb\nc\n\nd")

    def test_a_document_never_holds_the_separator(self):
        self.assertNotIn(clean.SEPARATOR, clean.normalise("one\ftwo"))

    def test_indentation_stays(self):
        self.assertEqual(clean.normalise("if x:\n\ty = 1\n    z\n"), "if x:\n\ty = 1\n    z")

    def test_a_long_document_ends_with_a_line(self):
        text = clean.normalise("a line of text\n" * 10_000)
        self.assertLessEqual(len(text), clean.MAX_DOCUMENT_CHARS)
        self.assertTrue(text.endswith("text"))

    def test_tables_other_scripts_and_scraps_are_no_text(self):
        self.assertTrue(clean.is_prose_or_code(prose("cat")))
        self.assertFalse(clean.is_prose_or_code("0x12, 0x34, 0x56,\n" * 50))
        self.assertFalse(clean.is_prose_or_code("\u4e2d\u6587 \u6587\u672c text " * 50))
        self.assertFalse(clean.is_prose_or_code("short"))


class Copies(unittest.TestCase):
    def test_a_paragraph_comes_once(self):
        seen, licence = clean.Seen(), "This program is free software; you can redistribute it. " * 3
        self.assertIn(licence.strip(), seen.filter(f"{licence.strip()}\n\n{prose('cat')}"))
        self.assertEqual(seen.filter(f"{licence}\n\n{prose('dog')}"), prose("dog"))
        self.assertEqual(seen.dropped_paragraphs, 1)

    def test_blanks_make_no_difference(self):
        seen = clean.Seen()
        seen.filter(prose("cat"))
        self.assertIsNone(seen.filter(prose("cat").replace(" ", "  ")))

    def test_a_near_copy_is_dropped(self):
        seen, text = clean.Seen(), prose("cat") + "\n\n" + prose("cow")
        self.assertIsNotNone(seen.filter(text))
        # Other paragraphs as far as a hash can tell, but the same runs of words.
        self.assertIsNone(seen.filter(text.replace("says z", "said z").replace("\n\n", " ")))

    def test_another_document_stays(self):
        seen = clean.Seen()
        seen.filter(prose("cat"))
        self.assertEqual(seen.filter(prose("dog")), prose("dog"))


class Split(unittest.TestCase):
    def test_by_name_alone_and_in_proportion(self):
        names = [f"man/page{i}" for i in range(20_000)]
        share = sum(map(clean.is_heldout, names)) / len(names)
        self.assertAlmostEqual(share, clean.HELDOUT_SHARE, delta=0.01)
        self.assertEqual(clean.place("docs/a"), clean.place("docs/a"))

    def test_sides_share_nothing_and_keep_to_their_room(self):
        documents = [(f"page{i}", prose(f"w{i}x")) for i in range(400)]
        source = domains.Source("pages", 0.1, lambda root: iter(documents))
        seen = clean.Seen()
        heldout = list(corpus._take(source, "man", None, True, seen))
        train = list(corpus._take(source, "man", None, False, seen))
        self.assertTrue(heldout and train)
        self.assertFalse({name for name, _ in heldout} & {name for name, _ in train})
        self.assertLessEqual(sum(len(text) for _, text in train), 1e5)

    def test_what_was_held_out_does_not_come_back_under_another_name(self):
        names = (f"page{i}" for i in range(10_000))
        held = next(name for name in names if clean.is_heldout(f"man/{name}"))
        documents = [(held, prose("cat")), *((f"copy{i}", prose("cat")) for i in range(9))]
        source = domains.Source("pages", 1, lambda root: iter(documents))
        seen = clean.Seen()
        self.assertEqual(len(list(corpus._take(source, "man", None, True, seen))), 1)
        self.assertEqual(list(corpus._take(source, "man", None, False, seen)), [])


class Reading(unittest.TestCase):
    def test_pieces_are_the_whole_text_cut_at_entries(self):
        text = "".join(f"word{i}\n   means {i}\n" for i in range(1000))
        pieces = readers.pieces("d", text, r"^(?=\S)", size=2000)
        self.assertEqual("".join(piece for _, piece in pieces), text)
        self.assertTrue(all(piece.startswith("word") for _, piece in pieces))
        self.assertEqual(pieces[1][0], "d#1")

    def test_html_keeps_words_and_verbatim_blocks(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "page.html"
            path.write_text("<head><title>no</title></head><p>One\n two</p><pre>a\n  b</pre>")
            self.assertEqual(clean.normalise(readers.html_text(path)), "One two\n\na\n  b")

    def test_every_package_has_a_version(self):
        self.assertTrue(all(len(entry) == 2 for entry in packages.pinned()))


if __name__ == "__main__":
    unittest.main()
