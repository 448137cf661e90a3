"""What suites show together: what each family loses for what it gains, and what its parts are worth."""

from collections.abc import Iterable
from dataclasses import replace
from statistics import mean

from .chapter import Chapter
from .claims import Verdict, judge
from .rows import ResultRow

__all__ = ['losses', 'parts']


def losses(chapters: Iterable[Chapter]) -> list[tuple[Chapter, ResultRow]]:
    """Rows that stand for a family, with their suites: the slowest first, those without a latency last.

    The metric of a row is its difference from :attr:`Suite.reference`, seed by seed, so that models whose size,
    length of training and first weights differ may stand beside each other. Seeds that the reference does not have
    are left out.
    """
    found = []
    for chapter in chapters:
        suite = chapter.suite
        reference = next((row for row in chapter.rows if row.label == suite.reference), None)
        for row in chapter.rows if reference else ():
            seeds = sorted(set(row.metrics) & set(reference.metrics))
            if row.label in suite.compared and seeds:
                found.append((chapter, replace(row, metrics={s: row.metrics[s] - reference.metrics[s] for s in seeds})))
    return sorted(found, key=lambda pair: -mean(pair[1].backbone.values()) if pair[1].backbone else 0.0)


def parts(chapters: Iterable[Chapter]) -> dict[str, list[tuple[Chapter, Verdict]]]:
    """What was found of the claims about a part, with their suites, by :attr:`Claim.part` in order of appearance."""
    found: dict[str, list[tuple[Chapter, Verdict]]] = {}
    for chapter in chapters:
        claims = [claim for claim in chapter.suite.claims if claim.part is not None]
        for verdict in judge(claims, chapter.rows):
            if verdict.differences:
                found.setdefault(verdict.claim.part, []).append((chapter, verdict))
    return found
