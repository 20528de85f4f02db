"""Counts the words of a text: bytes in, JSON out. It must never return anything else than
examples/wordcount does for the same bytes.

A word is a run of ASCII letters and digits, in lower case.
"""

import json
import re
from collections import Counter

import wit_world

# The number of the most frequent words in the result.
TOP = 10


class WitWorld(wit_world.WitWorld):
    """The task: what the world `muster:task/task` asks for."""

    def run(self, input: bytes) -> bytes:
        # Of bytes, and not of text: only ASCII letters are letters then.
        seen = Counter(re.findall(rb"[a-z0-9]+", input.lower()))
        # The most frequent first; words that are equally frequent in alphabetical order.
        top = sorted(seen.items(), key=lambda entry: (-entry[1], entry[0]))[:TOP]
        # The last line counts even without a newline at its end.
        lines = input.count(b"\n") + bool(input and not input.endswith(b"\n"))
        found = {
            "lines": lines,
            "words": seen.total(),
            "bytes": len(input),
            "top": [[word.decode(), times] for word, times in top],
        }
        return json.dumps(found, separators=(",", ":")).encode()
