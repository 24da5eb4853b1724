"""Full-text search. One function cuts the text of a post and the words of a query into the same lexemes.

PostgreSQL's own parser is not used: of "covid-19", "example.com" and "sea/shore" it makes numbers, hosts and paths, so
that no query of a part finds them. Of a Chinese sentence it makes one word.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_CHARACTERS = 100_000
"""How much of a post is searched. A tsvector holds 1 MiB: so many characters fit in any script."""

MAX_WORDS = 8
"""The largest number of words of a query that count. Each costs a scan of the index."""

_MAX_WORD_CHARACTERS = 100

# Accents, and the points of Hebrew and Arabic. Marks of other scripts make another letter, so they stay.
_ACCENTS = re.compile(r"[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670]+")

# Scripts without spaces between words: Chinese, Japanese, Korean (which has some), Thai, Lao, Burmese, Khmer.
_UNSPACED = re.compile(
    r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b"
    r"\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+)"
)


def lexemes(title: str, content: str) -> list[str]:
    """The lexemes of a post, each once: its words, and of unspaced scripts each character and each pair."""
    found: dict[str, None] = {}
    for word, is_unspaced in _words(f"{title} {content}"):
        if is_unspaced:
            found.update(dict.fromkeys(word))
            found.update(dict.fromkeys(_pairs(word)))
        else:
            found[word] = None
    return list(found)


@dataclass(frozen=True)
class Term:
    """A word of a query. `begins`: any lexeme that begins with it; otherwise, this lexeme."""

    lexeme: str
    begins: bool = False

    def __str__(self) -> str:
        """The term in the syntax of tsquery. A lexeme has letters, digits and marks only."""
        return f"'{self.lexeme}':*" if self.begins else f"'{self.lexeme}'"


def terms(text: str) -> list[Term] | None:
    """The terms that a post must contain, all of them; None if `text` is blank.

    The first MAX_WORDS different words count. A word of two or more characters is the beginning of a word of the post.
    A single letter or digit would begin too many, so it is a whole word, and counts only in a query without longer
    words. Of an unspaced script, all pairs of neighbours must occur. Without a letter or digit the list is empty: no
    post matches.
    """
    if not text.strip():
        return None
    found: dict[Term, None] = {}
    single: dict[Term, None] = {}
    for word, is_unspaced in _words(text):
        if is_unspaced:
            found.update(dict.fromkeys(Term(part) for part in _pairs(word) or [word]))
        elif len(word) == 1:
            single[Term(word)] = None
        else:
            found[Term(word, begins=True)] = None
    return list(found or single)[:MAX_WORDS]


def tsquery(chosen: Iterable[Term]) -> str:
    """The tsquery for posts that contain all of these terms."""
    return " & ".join(map(str, chosen))


def fold(text: str) -> str:
    """`text` without case, accents and compatibility forms."""
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold())))


def _words(text: str) -> Iterator[tuple[str, bool]]:
    """The words of a text, folded: letters, digits and marks. With each, whether its script has no spaces."""
    folded = fold(text[:MAX_CHARACTERS])[:MAX_CHARACTERS]
    separators = {ord(one): " " for one in set(folded) if unicodedata.category(one)[0] not in "LMN"}
    for run in folded.translate(separators).split():
        for number, part in enumerate(_UNSPACED.split(run)):
            if part and number % 2:
                yield part, True
            elif part:
                yield part[:_MAX_WORD_CHARACTERS], False


def _pairs(word: str) -> list[str]:
    return [word[i : i + 2] for i in range(len(word) - 1)]
