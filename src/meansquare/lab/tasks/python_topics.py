"""English text that every CPython carries: the reference topics of `help()`, without repeats."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from pydoc_data.topics import topics

SOURCE = f"the help topics of Python {platform.python_version()} (pydoc_data.topics)"


def paragraphs() -> Iterator[tuple[str, str]]:
    """Each topic's name with each of its paragraphs that no topic before it has.

    A fifth of the text is there twice: topics such as `compound` contain other topics whole.
    """
    seen: set[str] = set()
    for topic in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[topic].strip()):
            words = " ".join(paragraph.split())
            if words not in seen:
                seen.add(words)
                yield topic, paragraph
