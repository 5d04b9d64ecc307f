#!/usr/bin/env python3
"""Generates control-plane/machinery/data/descriptions.txt.gz: the sentences that `kubectl explain` shows.

They are those of the `k8s-openapi` crate (Apache-2.0): its `schemars` output for every type, read here from the crate's
source, so that neither the crate's slow build nor `schemars` is part of ours. Data, see data/README.md.

The format is one line per definition, `T name "text"`, followed by one line per property, `F name "text"`; the texts are
JSON strings. control-plane/machinery/src/openapi/descriptions.rs reads it.
"""

import argparse
import glob
import gzip
import json
import os
import re

STRING = r'"((?:[^"\\]|\\.)*)"'


def unescape(text):
    """Rust's string escapes are JSON's but for \\u{...} and \\'."""
    text = re.sub(r"\\u\{([0-9a-f]+)\}", lambda found: chr(int(found.group(1), 16)), text)
    return json.loads('"' + text.replace("\\'", "'") + '"')


def read(path):
    """The schema name, the description and the fields' descriptions of one source file."""
    text = open(path).read()
    name = re.search(r"fn schema_name\(\).*?" + STRING + r"\.into\(\)", text, re.S)
    body = re.search(r"crate::schemars::json_schema!\(\{\n(.*?)^        \}\)", text, re.S | re.M)
    if not name or not body:
        return None
    body = body.group(1)
    own = re.search(r'^            "description": ' + STRING, body, re.M)
    fields = {}
    for field, rest in re.findall(r'^                ' + STRING + r': (.*?)^                \}', body, re.S | re.M):
        found = re.match(r'(?:\{|\(\{)\n(?:.*?)(?:"description": |insert\("description"\.into\(\), )' + STRING, rest, re.S)
        if found:
            fields[field] = unescape(found.group(1))
    return name.group(1), unescape(own.group(1)) if own else "", fields


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crate", required=True, help="source folder of k8s-openapi")
    parser.add_argument("--version", default="v1_36")
    parser.add_argument("--output", default="control-plane/machinery/data/descriptions.txt.gz")
    arguments = parser.parse_args()
    lines = []
    found = filter(None, map(read, glob.glob(os.path.join(arguments.crate, "src", arguments.version, "**/*.rs"),
                                             recursive=True)))
    for name, own, fields in sorted(found):
        lines.append("T %s %s" % (name, json.dumps(own, ensure_ascii=False)))
        lines += ["F %s %s" % (field, json.dumps(fields[field], ensure_ascii=False)) for field in sorted(fields)]
    with open(arguments.output, "wb") as output:
        # No file name and no time in the header: the same input gives the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=output, mtime=0, compresslevel=9) as stream:
            stream.write(("\n".join(lines) + "\n").encode())
    print(arguments.output, len(lines), "lines")


main()
