"""A question as an expression that SQLite's full-text search (FTS5) can always read."""

from __future__ import annotations

import re

# Words that say how a question is asked, not what about. English only: in other languages they are
# searched for as well, where BM25 gives them little weight because they are everywhere.
_WORDS = """
a about am an and any are as at be been but by can could did do does for from had has have he her him
his how i if in into is it its just me my no not of on or our s she should so some t than that the
their them then there these they this those to was we were what when where which who whom whose why
will with would you your
"""
STOP_WORDS = frozenset(_WORDS.split())


def match_expression(query: str) -> str:
    """Return an FTS5 expression that finds any word of `query`; "" when it holds no word.

    Every word is quoted, so nothing in a query is read as an operator. Stop words are left out unless
    there is nothing else.
    """
    words = list(dict.fromkeys(re.findall(r"\w+", query.lower())))
    words = [word for word in words if any(sign.isalnum() for sign in word)]
    telling = [word for word in words if word not in STOP_WORDS]
    return " OR ".join(f'"{word}"' for word in telling or words)
