"""Works behind the choices of a run: keys for LaTeX, and the bibliography of those that are cited."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from heatproof.stages.report.tables import tex

BIBLIOGRAPHY = Path(__file__).with_name("sources.bib")
# `Selvaraju 2017`, `Mann & Whitney 1947`, `Lee et al. 2017`, `Zhang, Song and Qi 2017`
WORK = re.compile(r"(?P<first>[A-ZÀ-Ž][\w-]*)(?:(?:,| &| and| van| der| de|) [^\W\d_][\w-]*)*?(?: et al\.)? (?P<year>(?:18|19|20)\d\d)\b")  # fmt: skip  # noqa: E501
ENTRY = re.compile(r"^@\w+\{([^,]+),.*$", re.MULTILINE)


def works(source: str | None) -> dict[str, str]:
    """Key -> the words of a source that name a work by author and year; those that name none are no work.

    >>> works("Samek 2017; Blücher 2024, Eq. 6")
    {'samek2017': 'Samek 2017', 'blucher2024': 'Blücher 2024, Eq. 6'}
    >>> works("your own images")
    {}
    """
    found = {}
    for part in (source or "").split(";"):
        match = WORK.search(part)
        if match:
            letters = unicodedata.normalize("NFKD", match["first"].replace("ı", "i").replace("ø", "o"))
            key = re.sub(r"[^a-z]", "", letters.lower()) + match["year"]
            found[key] = part.strip()
    return found


def cite(sources: Iterable[str | None]) -> str:
    r"""`~\cite{...}` of all works of some sources, or nothing."""
    keys = dict.fromkeys(key for source in sources for key in works(source))
    return f"~\\cite{{{','.join(keys)}}}" if keys else ""


def bibliography(sources: Iterable[str | None]) -> str:
    """BibTeX of every work that `cite` names, in the order of their keys. One that is not known here has the words of
    its source as a note, to be completed by hand."""
    known = {match[1]: match[0] for match in ENTRY.finditer(BIBLIOGRAPHY.read_text(encoding="utf-8"))}
    wanted: dict[str, str] = {}
    for source in sources:
        for key, said in works(source).items():
            wanted.setdefault(key, said)
    return "\n".join(known.get(key) or _unknown(key, said) for key, said in sorted(wanted.items())) + "\n"


def _unknown(key: str, said: str) -> str:
    match = WORK.search(said)
    assert match is not None
    author = tex(match[0].removesuffix(match["year"]).strip())
    return f"@misc{{{key}, author={{{{{author}}}}}, title={{{tex(said)}}}, year={{{match['year']}}}}}"
