"""A custom task's YAML file: each fault is reported in a sentence that names file and key."""

from __future__ import annotations

import pytest

from analysis.data.cells import OUTCOMES, outcome_named
from bias_transfer.errors import UserError
from bias_transfer.tasks.custom import schema

T, PLAIN = "The {group} is {mask}.", "The person is {mask}."

BAD = [
    ({"txt": "a"}, "unknown option 'txt'. Did you mean 'text'"),
    ({"text": None}, "text: is missing"),
    ({"text": 3}, "text: Input should be a valid string"),
    ({"name": "a b"}, "name: "),
    ({"classes": ["keep"]}, "classes: 1 given; at least two are needed"),
    ({"classes": ["keep", "remove", "Keep"]}, "classes: 'Keep' is given twice"),
    ({"classes": {"keep": ["a"], "remove": []}}, "classes: 'remove' has no value of the column 'verdict'"),
    ({"classes": {"keep": ["a"], "remove": ["b", "A"]}}, "classes: the value 'a' is given twice"),
    ({"classes": {"keep": ["<0.5"], "remove": [">=0.6"]}}, "classes: bounds are one '>=X' for one class and one '<X', with"),
    ({"classes": {"keep": ["<0.5"], "remove": ["yes"]}}, "classes: either all values are bounds"),
    ({"classes": {"keep": ["a"]}}, "classes: 1 given; at least two are needed"),
    ({"classes": ["keep ", "remove"]}, "classes: 'keep ' is empty or has white space"),
    ({"harmful": "removed"}, "harmful: unknown class 'removed'. Did you mean 'remove'"),
    ({"terms": ["baker"]}, "terms: 1 given; at least two are needed"),
    ({"terms": []}, "terms: 0 given"),
    ({"terms": ["baker", ""]}, "terms: '' is empty"),
    ({"terms": ["baker", "a\nb"]}, "terms: 'a\\nb' has a line break"),
    ({"terms": ["baker", "a\x1b[2Jb"]}, "terms: 'a\\x1b[2Jb' has"),
    ({"terms": None}, "the groups are given either by terms, or by group"),
    ({"group": "club"}, "the groups are given either by terms, or by group"),
    ({"groups": ["a", "b"]}, "group (a column) and groups (its values) need each other"),
    ({"terms": None, "group": "club"}, "group (a column) and groups (its values) need each other"),
    ({"terms": None, "group": "club", "groups": ["a"]}, "groups: 1 given; at least two"),
    ({"terms": ["café", "cafe\u0301"]}, "terms: 'cafe\u0301' is given twice"),
    ({"prefixes": "arabik"}, "prefixes: unknown language 'arabik'. Did you mean 'arabic'"),
    ({"suffixes": []}, "suffixes: at least one is needed"),
    ({"suffixes": ["s "]}, "suffixes: at least one is needed, and none may be empty or have white space"),
    ({"terms": None, "group": "club", "groups": ["a", "b"], "prefixes": ["x"]}, "prefixes: they belong to terms"),
    ({"written": {"bakr": "a baker"}}, "written: unknown group 'bakr'. Did you mean 'baker'"),
    ({"written": {"baker": "rower"}}, "written: 'rower' is given twice"),
    ({"templates": {}}, "templates: at least one"),
    ({"templates": {"The {group} is here.": PLAIN}}, "templates: 'The {group} is here.' needs {group} and {mask}"),
    ({"templates": {"They are {mask}.": PLAIN}}, "templates: 'They are {mask}.' needs {group} and {mask}"),
    ({"templates": {T: "The person is."}}, "templates: 'The person is.' needs {mask}"),
    ({"templates": {T: T}}, "needs {mask}, each once and no other braces"),
    ({"templates": {"{group} {mask} {who}": PLAIN}}, "no other braces"),
    ({"templates": {"{group} {mask} {mask}": PLAIN}}, "each once"),
    ({"words_a": ["bad"]}, "words_a and words_b need each other"),
    ({"words_a": ["bad"], "words_b": []}, "words_b: at least one word"),
    ({"words_a": ["bad"], "words_b": ["good", "Bad"]}, "'bad' is given twice"),
    ({"phrases": {"A {group}.": "kept"}}, "phrases: 'A {group}.': unknown class 'kept'. Did you mean 'keep'"),
    ({"phrases": {"A {grup}.": "keep"}}, "phrases: 'A {grup}.' needs {group}"),
    ({"phrases": {"A baker.": "keep"}}, "phrases: at least one with {group}"),
    ({"phrases": {"A }.": "keep"}}, "phrases: 'A }.' has a brace"),
    ({"phrases": {"A {group}.": "keep", "A.": "remove"}, "primary": "logit_gap"}, "primary: logit_gap compares with harmless"),
    ({"primary": "logit_gap"}, "the file has none. Add phrases, or use natural_logit_gap"),
    ({"primary": "fprs"}, "primary: "),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_a_fault_is_reported_with_file_and_key(changes, message, written, tmp_path):
    path = tmp_path / "clubs.yaml"
    path.write_text(written(**changes))
    with pytest.raises(UserError) as caught:
        schema.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_the_file_without_a_fault_is_read(written, tmp_path):
    """The positive control of the test above."""
    path = tmp_path / "clubs.yaml"
    path.write_text(
        written(phrases={"A {group}.": "keep", "A.": "keep"}, primary="logit_gap", words_a=["bad"], words_b=["good"])
    )
    assert schema.read(path).names == ("baker", "bread baker", "rower")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "a mapping"),
        ("1: a", "a mapping"),
        ("a: [", "invalid YAML"),
        ("", "a mapping"),
        ("{a: 1, a: 2}", "YAML"),
    ],
)
def test_a_file_that_is_not_a_mapping_is_refused(text, message, tmp_path):
    path = tmp_path / "clubs.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        schema.read(path)


def test_a_missing_file_is_reported_with_the_nearest_one(tmp_path):
    (tmp_path / "clubs.yaml").write_text("")
    with pytest.raises(UserError, match=r"no such file. Did you mean '.*clubs.yaml'"):
        schema.read(tmp_path / "club.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    with pytest.raises(UserError, match=r"bytes.yaml: not UTF-8"):
        schema.read(tmp_path / "bytes.yaml")


def test_integers_and_booleans_are_read_as_texts(task_file):
    found = task_file(classes=[0, 1], harmful=1)
    assert (found.classes, found.harmful_label) == (["0", "1"], 1)
    assert task_file(classes=[True, False], harmful=False).classes == ["true", "false"]


def test_prefixes_and_suffixes_are_a_language_or_a_list(task_file):
    found = task_file(prefixes="hebrew", suffixes="korean").attached
    assert "ה" in found.prefixes
    assert "은" in found.suffixes
    assert task_file(suffixes=["s"]).attached.suffixes == ("s",)
    assert task_file().attached.prefixes == ()


def test_the_digest_is_that_of_the_content(written):
    plain = schema.parse_file(written())
    lines = "\n".join(["# a comment", *written().replace(', "', ',\n  "').split("\n")])
    assert schema.parse_file(lines).digest == plain.digest
    assert plain.digest.startswith("clubs@")
    others = [{"name": "other"}, {"harmful": "keep"}, {"terms": ["a", "b"]}, {"primary": "natural_fpr"}]
    assert len({schema.parse_file(written(**change)).digest for change in (*others, {})}) == 5


def test_analysis_knows_each_primary_measure():
    assert len([name for name in schema.PRIMARIES if name in OUTCOMES]) == 6
    assert all(outcome_named(name).axis for name in schema.PRIMARIES)


def test_a_mapping_of_classes_joins_values(task_file):
    joined = task_file(classes={"keep": None, "remove": ["hateful", "Abusive_Hateful"], "ask": 3})
    assert joined.classes == ["keep", "remove", "ask"]
    assert joined.label_codes == {"keep": 0, "hateful": 1, "abusive_hateful": 1, "3": 2}
    assert joined.digest != task_file(classes=["keep", "remove", "ask"]).digest
    assert task_file(classes=[0, 1], harmful=1).label_codes["yes"] == 1
    assert "yes" not in task_file().label_codes
