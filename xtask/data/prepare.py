#!/usr/bin/env python3
"""Turns fetched sources into the demo's contributions, training lists and questions. Standard library only.

    prepare.py topics FILE                              dump Python's own pydoc_data.topics as text
    prepare.py demo --hpo F --icd F --topics F --out D  write the demo's inputs and D/digests.json

Two Datanets, three contributors:
    medical-a.jsonl   half of the Human Phenotype Ontology's definitions, drawn by hash
    medical-b.jsonl   the other half, and the categories of ICD-10-CM
    python-a.jsonl    paragraphs of the Python reference

A row is {"id", "title", "text"}: ASCII, so canonical by construction; texts are unique over both files of a Datanet. A source
document that does not fold to ASCII, or is too short to say anything, is left out and counted.

Training and held-out documents are the first ones by sha256(id) among short definitions, so nobody picked them by hand;
the questions are "What is <title>?" about the first trained documents whose text has a long unbroken sentence.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import Counter

TRAIN_COUNT = 120
HELD_OUT_COUNT = 30
QUESTIONS_PER_DATANET = 6
# Words of a text: a floor for whatever is kept, a window for what is trained on (an answer of at most about 60 tokens).
KEPT_WORDS_MIN = 5
TRAIN_WORDS = (12, 30)
PARAGRAPH_WORDS_MAX = 45
# A paid span holds no full stop; a question is asked only where one of this many words can exist.
UNBROKEN_WORDS_MIN = 12

FOLD = {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-",
        "\u2212": "-", "\u2026": "...", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u200b": "", "\u2265": ">=", "\u2264": "<=", "\u00d7": "x",
        "\u00b1": "+/-", "\u00b0": " degrees", "\u00b5": "u", "\u03bc": "u", "\u2032": "'", "\u2033": '"', "\u00df": "ss", "\u03b1": "alpha",
        "\u03b2": "beta", "\u03b3": "gamma", "\u03b4": "delta", "\u00e6": "ae", "\u0153": "oe", "\u00f8": "o", "\u0142": "l", "\u2022": "-"}


def ascii_text(text):
    """`text` folded to printable ASCII on one line, or None where something has no plain form."""
    folded = "".join(FOLD.get(c, c) for c in text)
    folded = "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
    folded = " ".join(folded.split())
    return folded if folded and all(" " <= c <= "~" for c in folded) else None


def words(text):
    return re.findall(r"[A-Za-z0-9]+", text)


def unbroken_words(text):
    """Length in words of the longest stretch without a sentence mark."""
    return max(len(words(piece)) for piece in re.split(r"[.!?\n]", text))


def rank(identifier):
    return hashlib.sha256(identifier.encode()).hexdigest()


class Rows:
    """Rows of one Datanet: unique ids and texts, and a count of what was left out."""

    def __init__(self):
        self.files, self.left_out, self.texts, self.ids = {}, Counter(), set(), set()

    def add(self, file, identifier, title, text, is_definition):
        if title is None or text is None:
            self.left_out["not ascii"] += 1
        elif len(words(text)) < KEPT_WORDS_MIN:
            self.left_out["too short"] += 1
        elif text in self.texts or identifier in self.ids:
            self.left_out["duplicate"] += 1
        else:
            self.texts.add(text)
            self.ids.add(identifier)
            row = {"id": identifier, "title": title, "text": text}
            self.files.setdefault(file, []).append((row, is_definition))

    def rows(self):
        return [(file, row, flag) for file, rows in sorted(self.files.items()) for row, flag in rows]


def phenotypes(path):
    """(id, name, definition) of each living term of an OBO file."""
    quoted = re.compile(r'^def: "((?:[^"\\]|\\.)*)"')
    unescape = re.compile(r"\\(.)")
    with open(path, encoding="utf-8") as file:
        for stanza in file.read().split("\n[Term]\n")[1:]:
            stanza = stanza.split("\n[", 1)[0]
            fields = dict(reversed([line.split(": ", 1) for line in stanza.split("\n") if ": " in line]))
            found = [quoted.match(line) for line in stanza.split("\n") if line.startswith("def: ")]
            if found and found[0] and fields.get("is_obsolete") != "true":
                yield fields["id"], fields["name"], unescape.sub(lambda m: " " if m.group(1) in "nt" else m.group(1), found[0].group(1))


def categories(path):
    """(code, description, text) of each three-character category of the ICD-10-CM tabular list, its codes and notes a line each."""
    notes = [("includes", "Includes"), ("inclusionTerm", "Also"), ("excludes1", "Never with"), ("excludes2", "Not here"),
             ("codeFirst", "Code first"), ("useAdditionalCode", "Use also"), ("codeAlso", "Code also")]
    for section in ElementTree.parse(path).getroot().iter("section"):
        for category in section.findall("diag"):
            lines = []
            for diagnosis in category.iter("diag"):
                lines.append("%s (%s)" % (ascii_text(diagnosis.findtext("desc")), diagnosis.findtext("name")))
                for tag, label in notes:
                    found = [ascii_text("".join(note.itertext())) for block in diagnosis.findall(tag) for note in block.findall("note")]
                    lines.extend("%s: %s" % (label, note) for note in found if note)
            yield category.findtext("name"), category.findtext("desc"), "\n".join(lines)


def topics_text():
    """Python's own reference topics as text: each a form feed, its label, a line break, its body."""
    from pydoc_data import topics
    return "".join("\f%s\n%s\n" % (label, body.strip("\n")) for label, body in sorted(topics.topics.items()))


def sentences(paragraph):
    """Pieces of 12 to 45 words, cut between sentences; a longer sentence stays whole."""
    pieces, current = [], ""
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"(])", paragraph):
        joined = (current + " " + sentence).strip()
        if current and len(words(joined)) > PARAGRAPH_WORDS_MAX and len(words(current)) >= TRAIN_WORDS[0]:
            pieces.append(current)
            joined = sentence
        current = joined
    return pieces + [current]


def reference(path):
    """(id, section, piece of prose) of the dumped topics; the section is the definition or the heading above the prose."""
    with open(path, encoding="utf-8") as file:
        topics = file.read().split("\f")[1:]
    definition = re.compile(r"^(?:class |async )?([A-Za-z_][\w.]*)(?:\(.*\)?)?$")
    for topic in topics:
        label, body = topic.split("\n", 1)
        heading, term, count = label, None, 0
        for block in re.split(r"\n\s*\n", body):
            lines = block.strip("\n").split("\n")
            if len(lines) > 1 and re.fullmatch(r"([*=~^\-])\1{2,}", lines[1]):
                heading, term = ascii_text(lines[0].replace('"', "")) or label, None
                continue
            found = definition.match(lines[0])
            if found and all(definition.match(line) for line in lines) and not lines[0].startswith(" "):
                term = found.group(1)
                continue
            indent = len(lines[0]) - len(lines[0].lstrip())
            if indent == 0:
                term = None
            prose = " ".join(line.strip() for line in lines)
            is_code = indent > 3 or "::=" in prose or ">>>" in prose or not re.match(r"[A-Z\"]", prose)
            if is_code or not re.search(r"[.:]$", prose):
                continue
            for piece in sentences(ascii_text(prose) or ""):
                count += 1
                yield "py:%s:%d" % (label, count), term or heading, piece


def distinct_titles(pieces):
    """Gives each piece a title of its own: the section's name for its first piece, then the name and the piece's two rarest words."""
    frequency = Counter(word for _, _, piece in pieces for word in set(re.findall(r"[A-Za-z_]{5,}", piece)))
    taken, out = set(), []
    for identifier, section, piece in pieces:
        found = list(dict.fromkeys(re.findall(r"[A-Za-z_]{5,}", piece)))
        rarest = sorted(found, key=lambda word: (frequency[word], found.index(word)))[:2]
        title = section if section not in taken else "%s (%s)" % (section, ", ".join(sorted(rarest, key=found.index)))
        if title not in taken:
            taken.add(title)
            out.append((identifier, title, piece))
    return out


def candidates(rows):
    """Rows fit to be trained on, in hash order: whole short sentences under a short title that no other row bears."""
    titles = Counter(row["title"].lower() for _, row, _ in rows)
    low, high = TRAIN_WORDS

    def fits(row):
        text = row["text"]
        return (low <= len(words(text)) <= high and text[0].isupper() and not text.startswith(("Changed in", "New in", "Added in", "Deprecated")) and text.endswith(".") and unbroken_words(text) >= 10
                and 1 <= len(words(row["title"])) <= 8 and titles[row["title"].lower()] == 1)

    return sorted(((file, row) for file, row, is_definition in rows if is_definition and fits(row)), key=lambda item: rank(item[1]["id"]))


def questions(datanet, trained):
    """Questions about trained documents, one contributor after the other."""
    by_file = {}
    for file, row in trained:
        if unbroken_words(row["text"]) >= UNBROKEN_WORDS_MIN and "(" not in row["title"]:
            by_file.setdefault(file, []).append(row)
    out = []
    for turn in range(QUESTIONS_PER_DATANET):
        for file in sorted(by_file):
            if turn < len(by_file[file]) and len(out) < QUESTIONS_PER_DATANET:
                row = by_file[file][turn]
                out.append({"datanet": datanet, "contribution": file, "document": row["id"], "question": "What is %s?" % row["title"]})
    return out


def write(path, text):
    """Writes through a neighbour, so that an interrupted run leaves no half file under the final name."""
    with open(path + ".part", "w", encoding="ascii", newline="\n") as file:
        file.write(text)
    os.replace(path + ".part", path)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def demo(arguments):
    medical, python = Rows(), Rows()
    for identifier, name, text in phenotypes(arguments.hpo):
        half = "ab"[int(rank("half:" + identifier), 16) % 2]
        medical.add("medical-%s.jsonl" % half, identifier, ascii_text(name), ascii_text(text), True)
    for code, description, text in categories(arguments.icd):
        medical.add("medical-b.jsonl", "ICD10CM:" + code, ascii_text(description), text, False)
    for identifier, title, text in distinct_titles(list(reference(arguments.topics))):
        python.add("python-a.jsonl", identifier, ascii_text(title), text, True)

    os.makedirs(arguments.out, exist_ok=True)
    asked, written = [], []
    for datanet, rows in (("medical", medical), ("python", python)):
        for file, kept in sorted(rows.files.items()):
            write(os.path.join(arguments.out, file), "".join(json.dumps(row, ensure_ascii=True) + "\n" for row, _ in kept))
            written.append(file)
        fit = candidates(rows.rows())
        if len(fit) < TRAIN_COUNT + HELD_OUT_COUNT:
            sys.exit("%s: %d documents are fit for training, %d are needed; is the source complete?" % (datanet, len(fit), TRAIN_COUNT + HELD_OUT_COUNT))
        trained, held_out = fit[:TRAIN_COUNT], fit[TRAIN_COUNT:TRAIN_COUNT + HELD_OUT_COUNT]
        for name, chosen in (("train", trained), ("heldout", held_out)):
            file = "%s-%s.txt" % (datanet, name)
            write(os.path.join(arguments.out, file), "".join(row["id"] + "\n" for _, row in chosen))
            written.append(file)
        asked.extend(questions(datanet, trained))
        count, size = len(rows.rows()), sum(len(row["text"]) for _, row, _ in rows.rows())
        print("%s: %d documents, %d bytes of text, %d fit for training, left out %s" % (datanet, count, size, len(fit), dict(rows.left_out)))
    write(os.path.join(arguments.out, "questions.json"), json.dumps(asked, indent=1) + "\n")
    written.append("questions.json")
    record = {
        "inputs": {os.path.basename(path): digest(path) for path in (arguments.hpo, arguments.icd, arguments.topics)},
        "outputs": {file: digest(os.path.join(arguments.out, file)) for file in written},
        "licences": {
            "medical-a.jsonl": "Human Phenotype Ontology licence (https://hpo.jax.org/app/license)",
            "medical-b.jsonl": "Human Phenotype Ontology licence; ICD-10-CM is a work of the United States government",
            "python-a.jsonl": "Python Software Foundation License Version 2",
        },
    }
    write(os.path.join(arguments.out, "digests.json"), json.dumps(record, indent=1, sort_keys=True) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    dump = commands.add_parser("topics")
    dump.add_argument("file")
    build = commands.add_parser("demo")
    for name in ("--hpo", "--icd", "--topics", "--out"):
        build.add_argument(name, required=True)
    arguments = parser.parse_args()
    if arguments.command == "demo":
        demo(arguments)
    else:
        with open(arguments.file, "w", encoding="utf-8", newline="\n") as file:
            file.write(topics_text())


if __name__ == "__main__":
    main()
