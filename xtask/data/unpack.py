#!/usr/bin/env python3
"""unpack.py ARCHIVE MEMBER FILE: writes one member of a zip (or wheel) to FILE, whole or not at all."""

import os
import shutil
import sys
import zipfile

archive, member, target = sys.argv[1:]
os.makedirs(os.path.dirname(target), exist_ok=True)
with zipfile.ZipFile(archive) as opened:
    if member not in opened.namelist():
        sys.exit("%s holds no member %s; it has: %s" % (archive, member, ", ".join(opened.namelist()[:20])))
    with opened.open(member) as source, open(target + ".part", "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
os.replace(target + ".part", target)
