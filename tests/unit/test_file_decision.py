"""What a file means: the whole table, and what holds in every case."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from jupyter_teleportal.core.file_decision import NAMES, TABLE, Facts, Outcome, decide
from jupyter_teleportal.files.file_facts import FileFacts

EXPECTED = """
s s h h b o s s l e n c s r s u m
a h e a e w u a a l o h e e a n e
v a l l g n p v c s t a e f m s r
e r d f u   e e k e e n d u e a g
r e     n   r d i w d g e s   v e
  d         s   n h   e d e   e s
            e   g e   d   d   d
            d     r
            e     e
            d
y y . y y . . . . . . . . . . . .  write again
y y . y n . . . . . . . . . . . .  keep file, write again
y y . n . y y y y . . . . . y . .  accept
y y . n . y y y y . . . . . n . .  keep file, accept
y y . n . y y y n . . . . . . . .  accept
y y . n . y y n . y . . . . . . .  wait
y y . n . y y n . n y . . . . . .  accept
y y . n . y y n . n n . . . y . .  accept
y y . n . y y n . n n . . . n . .  keep file, accept
y y . n . y n . . . . . . . . . .  accept
y y . n . n . y y . . . . . y . .  accept
y y . n . n . y y . . . . . n . .  keep file, accept
y y . n . n . y n . . . . . . . .  accept
y y . n . n . n . y . . . . . . .  wait
y y . n . n . n . n y . . . . . .  accept
y y . n . n . n . n n y . y . . .  keep file, accept
y y . n . n . n . n n y . n y . .  accept
y y . n . n . n . n n y . n n y y  take
y y . n . n . n . n n y . n n y n  keep document, take
y y . n . n . n . n n y . n n n .  take
y y . n . n . n . n n n y . . . .  accept
y y . n . n . n . n n n n . y . .  accept
y y . n . n . n . n n n n . n . .  keep file, accept
y n y . . . . . . . . . . . . . .  step down
y n n y y . . . . . . . . . . . .  write again
y n n y n . . . . . . . . . . . .  keep file, write again
y n n n . y y y y . . . . . y . .  accept
y n n n . y y y y . . . . . n . .  keep file, accept
y n n n . y y y n . . . . . . . .  accept
y n n n . y y n . . y . . . . . .  accept
y n n n . y y n . . n . . . . . .  step down
y n n n . y n . . . . . . . . . .  accept
y n n n . n . y y . . . . . y . .  accept
y n n n . n . y y . . . . . n . .  keep file, accept
y n n n . n . y n . . . . . . . .  accept
y n n n . n . n . . y . . . . . .  accept
y n n n . n . n . . n y . . . . .  step down
y n n n . n . n . . n n y . . . .  accept
y n n n . n . n . . n n n . . . .  step down
n . . . . . . . . . . . . . . . .  give way
"""

TAKES = {Outcome.TAKE, Outcome.KEEP_DOCUMENT}
LETS_WRITE = set(Outcome) - {Outcome.GIVE_WAY, Outcome.STEP_DOWN, Outcome.WAIT}
"""After these the file may be written."""


@cache
def cases() -> dict[Facts, Outcome]:
    """Every combination of facts, as far as they are asked for, and what becomes of it."""

    def follow(facts: Facts) -> Iterator[tuple[Facts, Outcome]]:
        found = decide(facts)
        if isinstance(found, Outcome):
            yield facts, found
        else:
            for answer in (True, False):
                yield from follow(replace(facts, **{found: answer}))

    return dict(follow(Facts()))


@cache
def everything() -> dict[Facts, Outcome]:
    """The outcome of every combination of facts, all of them found out."""
    found = {}
    for answers in itertools.product((True, False), repeat=len(NAMES)):
        outcome = decide(facts := Facts(*answers))
        assert isinstance(outcome, Outcome)
        found[facts] = outcome
    return found


def drawn() -> str:
    """The table, with `.` where a fact is not asked for."""
    heads = ["".join(letters) for letters in zip(*(name.ljust(10) for name in NAMES), strict=True)]
    lines = [" ".join(head) for head in heads if head.strip()]
    for facts, outcome in cases().items():
        answers = (getattr(facts, name) for name in NAMES)
        marks = ["." if answer is None else "ny"[answer] for answer in answers]
        lines.append(f"{' '.join(marks)}  {outcome.value}")
    return "\n".join(line.rstrip() for line in lines)


def test_the_whole_table() -> None:
    print(drawn())
    assert drawn() == EXPECTED.strip("\n")


def test_every_combination_of_facts_has_one_outcome() -> None:
    """It does not matter what else is known, nor when it is found out."""
    assert len(everything()) == 2 ** len(NAMES)
    for facts, outcome in everything().items():
        found = Facts()
        while isinstance(asked := decide(found), str):
            found = replace(found, **{asked: getattr(facts, asked)})
        assert asked is outcome


def test_what_is_asked_for_can_be_found_out() -> None:
    given = {"saver", "shared", "held", "refused"}
    for name in set(NAMES) - given:
        assert callable(getattr(FileFacts, f"_{name}"))


def test_no_row_is_there_in_vain() -> None:
    used = set()
    for facts in cases():
        for number, (row, _) in enumerate(TABLE):
            wanted = {name: getattr(row, name) for name in NAMES}
            if all(getattr(facts, n) is w for n, w in wanted.items() if w is not None):
                used.add(number)
                break
    assert used == set(range(len(TABLE)))


def still_own(facts: Facts) -> bool:
    return bool(facts.own and not facts.superseded)


def test_whoever_is_not_the_saver_does_nothing() -> None:
    assert {o for facts, o in everything().items() if not facts.saver} == {Outcome.GIVE_WAY}


def test_nothing_is_taken_from_a_file_in_an_outage() -> None:
    """Another server may have written it, whose edits come by the log."""
    for facts, outcome in everything().items():
        assert facts.shared or outcome not in TAKES


def test_in_an_outage_a_file_that_nobody_explains_is_not_written() -> None:
    for facts, outcome in everything().items():
        if not facts.shared and outcome in LETS_WRITE:
            assert still_own(facts) or facts.saved or facts.noted or facts.seeded or facts.half


def test_in_an_outage_a_file_that_was_known_and_is_written_by_another_one_is_left_alone() -> None:
    for facts, outcome in everything().items():
        if facts.saver and not facts.shared and facts.held:
            assert outcome is Outcome.STEP_DOWN


def test_a_save_that_was_cut_off_is_done_again_whatever_is_said_of_it() -> None:
    for facts, outcome in everything().items():
        if facts.half and outcome in LETS_WRITE:
            assert outcome is (Outcome.WRITE_AGAIN if facts.begun else Outcome.KEEP_HALF)


def test_a_file_is_written_over_without_a_copy_only_where_the_document_holds_it() -> None:
    """By what a server has said of its edits, by looking, or because the log began with it."""
    for facts, outcome in everything().items():
        if outcome in (Outcome.ACCEPT, Outcome.WRITE_AGAIN):
            by_edits = still_own(facts) or facts.noted or (facts.saved and not facts.lacking)
            by_looking = facts.same or (facts.half and facts.begun)
            assert by_edits or by_looking or (facts.seeded and not facts.own)


def test_older_content_never_replaces_newer_without_a_copy() -> None:
    for facts, outcome in everything().items():
        lacks = facts.saved and facts.lacking and not still_own(facts)
        put_back = facts.own and facts.superseded and not facts.saved and not facts.noted
        if (lacks or put_back) and not facts.same and not facts.half:
            assert outcome not in (Outcome.ACCEPT, *TAKES)


def test_a_document_is_changed_without_a_copy_only_where_nothing_of_it_can_be_lost() -> None:
    for facts, outcome in everything().items():
        if outcome is Outcome.TAKE:
            assert facts.changed
            assert facts.merges or not facts.unsaved


def test_what_both_have_done_is_done_once() -> None:
    """No edit is made of what the document holds already, or of what comes by the log."""
    for facts, outcome in everything().items():
        if facts.same or facts.noted or facts.saved or facts.own:
            assert outcome not in TAKES


def test_a_change_that_the_document_does_not_let_in_is_kept_in_a_copy() -> None:
    for facts, outcome in everything().items():
        if outcome in TAKES:
            assert decide(replace(facts, refused=True)) is Outcome.KEEP_FILE


def test_what_may_be_another_documents_file_is_neither_read_into_this_one_nor_written() -> None:
    for facts, outcome in everything().items():
        if facts.elsewhere and facts.shared and outcome in LETS_WRITE:
            assert still_own(facts) or facts.saved or facts.half
