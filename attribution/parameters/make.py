#!/usr/bin/env python3
"""Writes word table 1 and the vectors that hold the crate to it.

    python3 -m venv .venv && .venv/bin/pip install pycryptodome==4.4.0
    .venv/bin/pip download --no-deps -d wheel symspellpy==6.10.1
    .venv/bin/python attribution/parameters/make.py wheel/symspellpy-6.10.1-py3-none-any.whl

Shares no code with the crate: weights are exact Python integers, digests come from pycryptodome.
"""

import hashlib
import math
import re
import struct
import sys
import zipfile
from pathlib import Path

from Crypto.Hash import keccak as keccak_of

HERE = Path(__file__).resolve().parent
SOURCE = "symspellpy/frequency_dictionary_en_82_765.txt"
SHA256 = "68e9dc81c7e73bd7310b57e516ecaea0d8b6387ff71344a57c04174650a407a7"
ROWS = 1 << 14
# Letters and digits on their own are mostly parts of contractions, list numbers and table cells. The source has only "a" and "i"; the
# others are given the count of its 64th word, so that a column of digits is not worth a payment.
SINGLES = "0123456789abcdefghijklmnopqrstuvwxyz"
SINGLES_RANK = 64
ID, M, THETA = 1, 6, 60 * 256


def keccak(data):
    return keccak_of.new(digest_bits=256, data=data).digest()


def weight(total, count):
    """floor(256 log2(total / count)): the largest w with 2^w count^256 <= total^256."""
    return (total**256 // count**256).bit_length() - 1


def root(leaves):
    level = [keccak(b"\0" + leaf) for leaf in leaves]
    width = 1
    while width < len(level):
        width *= 2
    level += [bytes(32)] * (width - len(level))
    while len(level) > 1:
        level = [keccak(b"\1" + level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return keccak(b"\3" + struct.pack(">QQ", len(leaves), sum(map(len, leaves))) + level[0])


def table(text):
    counted = [(word, int(count)) for word, count in (line.split() for line in text.splitlines())]
    total = sum(count for _, count in counted)
    plain = sorted((row for row in counted if re.fullmatch("[a-z0-9]+", row[0])), key=lambda row: (-row[1], row[0]))
    given = {single: plain[SINGLES_RANK - 1][1] for single in SINGLES if single not in dict(plain)}
    rows = dict(plain[: ROWS - len(given)]) | given
    assert len(rows) == ROWS
    return total, sorted(rows.items())


def main(wheel):
    raw = zipfile.ZipFile(wheel).read(SOURCE)
    assert hashlib.sha256(raw).hexdigest() == SHA256, "another edition of the dictionary"
    total, rows = table(raw.decode("utf-8-sig"))
    (HERE / "1.tsv").write_text("".join(f"{word}\t{count}\n" for word, count in rows))
    weights = [weight(total, count) for _, count in rows]
    unknown = max(weights)
    word_table = root([bytes([len(word)]) + word.encode() + struct.pack(">I", w) for (word, _), w in zip(rows, weights)])
    digest = keccak(struct.pack(">IBII", ID, M, THETA, unknown) + word_table)
    vectors = [("total", total), ("unknown", unknown), ("table", "0x" + word_table.hex()), ("hash", "0x" + digest.hex())]
    vectors += [(word, w) for (word, _), w in list(zip(rows, weights))[::128]]
    # Counts whose ratio to a total lies close to a 256th of an octave, on both sides, and exact powers of two.
    hard = [(1 << 63, 1 << k) for k in range(0, 64, 7)]
    for step in range(1, 256, 15):
        for bits in (20, 40, 62):
            near = root_256(1 << (256 * bits + step))
            hard += [(near + d, 1) for d in (-1, 0, 1)]
    vectors += [(f"{n}/{c}", weight(n, c)) for n, c in hard]
    (HERE.parent / "fixtures" / "weights.tsv").write_text("".join(f"{name}\t{value}\n" for name, value in vectors))
    print(f"N = {total}, unknown = {unknown}, table {word_table.hex()}, parameters {digest.hex()}")


def root_256(value):
    """floor of the 256th root."""
    for _ in range(8):
        value = math.isqrt(value)
    return value


if __name__ == "__main__":
    main(sys.argv[1])
