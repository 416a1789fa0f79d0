#!/usr/bin/env python3
"""download.py PROJECT FILE SHA256 TARGET: one file of the Python package index to TARGET, by the standard library alone.

For a Python that comes without pip (Debian splits it off): this fetches pip itself. The index is PIP_INDEX_URL, else pypi.org's.
What has another digest than SHA256 is not written.
"""

import hashlib
import html.parser
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

TIMEOUT_S = 60
BYTES_MAX = 16 << 20


class Links(html.parser.HTMLParser):
    """The targets of a page's links."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.found += [value for name, value in attributes if name == "href" and value]


def read(url):
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        data = answer.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        sys.exit("%s is longer than %d bytes" % (url, BYTES_MAX))
    return data


def main():
    project, name, digest, target = sys.argv[1:]
    index = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")
    page = "%s/%s/" % (index, project)
    try:
        links = Links()
        links.feed(read(page).decode("utf-8", "replace"))
        matching = [link for link in links.found if urllib.parse.urlsplit(link).path.rsplit("/", 1)[-1] == name]
        if not matching:
            sys.exit("%s lists no %s" % (page, name))
        data = read(urllib.parse.urljoin(page, matching[0]))
    except (urllib.error.URLError, OSError) as error:
        sys.exit("%s cannot be read: %s; it must be reachable, or set PIP_INDEX_URL" % (page, error))
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        sys.exit("%s has sha256 %s, expected %s" % (name, found, digest))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target + ".part", "wb") as sink:
        sink.write(data)
    os.replace(target + ".part", target)


main()
