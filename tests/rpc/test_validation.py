"""Requests are checked against the options of their fields: each kind of field at its limit and one beyond."""

import math
from typing import Any

import pytest
from frontispiece.types.v1.limits_pb2 import Limits

from rpc import errors
from rpc.limits import describe_range, limits, number_problem
from rpc.validation import DEFAULT_MAX_LENGTH, MAX_VIOLATIONS, check
from tests.rpc.contract import Item, Request, Required


def violations(message: Any) -> dict[str, str]:
    """What `check` says, by field."""
    try:
        check(message)
    except errors.InvalidArgument as error:
        return {violation.field: violation.description for violation in error.violations}
    return {}


def item(name: str = "a", **fields: Any) -> Any:
    return Item(name=name, **fields)


class TestText:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            pytest.param("  abc ", "abc", id="spaces at the ends"),
            pytest.param("\u00a0\u3000abc\u2003", "abc", id="Unicode spaces at the ends"),
            pytest.param("a\u0308\u0301b", "\u00e4\u0301b", id="decomposed"),
            pytest.param("a\r\nb\nc", "a b c", id="line breaks"),
            pytest.param("a\tb\u2028c", "a b c", id="tab and line separator"),
            pytest.param("\nabc\n", "abc", id="line breaks at the ends"),
            pytest.param("e\u0301" * 5, "\u00e9" * 5, id="at the limit once composed"),
            pytest.param("   ", "", id="blank"),
            pytest.param("\u200b", "", id="zero-width space"),
            pytest.param("\u00ad", "", id="soft hyphen"),
            pytest.param("\u3164 \u2800", "", id="fillers"),
            pytest.param("\ufeff\u2060", "", id="byte order mark"),
            pytest.param("\u0301", "", id="a mark without a letter"),
            pytest.param("a\u202eb\u202d", "ab", id="bidirectional overrides"),
            pytest.param("\u2067ab\u2069", "\u2067ab\u2069", id="isolates stay"),
            pytest.param("\U0001f469\u200d\U0001f52c", "\U0001f469\u200d\U0001f52c", id="joined emoji"),
            pytest.param("\u0646\u200c\u0645", "\u0646\u200c\u0645", id="zero-width non-joiner between letters"),
            pytest.param("\U0001fae9", "\U0001fae9", id="an emoji newer than the tables of Python"),
            pytest.param("a\u0085b", "a b", id="next line"),
            pytest.param("\U0001f30a" * 5, "\U0001f30a" * 5, id="code points are counted, not bytes"),
        ],
    )
    def test_a_line_is_normalised_in_place(self, given: str, expected: str) -> None:
        request = Request(line=given)
        assert not violations(request)
        assert request.line == expected

    @pytest.mark.parametrize(
        ("given", "expected"), [(" a\r\nb", " a\nb"), ("\ta\n ", "\ta\n "), ("e\u0301\n", "\u00e9\n")]
    )
    def test_lines_keep_breaks_tabs_and_ends(self, given: str, expected: str) -> None:
        request = Request(lines=given)
        assert not violations(request)
        assert request.lines == expected

    def test_text_of_nested_messages_lists_and_maps_is_normalised(self) -> None:
        request = Request(
            tags=[" a", "b "], items=[item(" a ", children=[item("b\n")])], metadata={"a": " x "}, item=item(" c ")
        )
        assert not violations(request)
        assert list(request.tags) == ["a", "b"]
        assert (request.items[0].name, request.items[0].children[0].name) == ("a", "b")
        assert request.metadata["a"] == "x"
        assert request.item.name == "c"

    @pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x9f", "\x0b"])
    def test_control_characters_are_refused(self, character: str) -> None:
        text = f"a{character}"
        assert violations(Request(line=text, free=text, lines=text)) == {
            "line": "must not contain control characters",
            "free": "must not contain control characters",
            "lines": "must not contain control characters except line breaks and tabs",
        }

    def test_a_lone_carriage_return_is_refused_in_lines(self) -> None:
        assert set(violations(Request(lines="a\rb"))) == {"lines"}

    def test_one_character_too_many(self) -> None:
        assert violations(Request(line="x" * 6)) == {"line": "must have at most 5 characters, has 6"}

    def test_a_length_without_limit_has_the_default_limit(self) -> None:
        assert not violations(Request(free="é" * DEFAULT_MAX_LENGTH))
        assert violations(Request(free="é" * (DEFAULT_MAX_LENGTH + 1))) == {
            "free": f"must have at most {DEFAULT_MAX_LENGTH} characters, has {DEFAULT_MAX_LENGTH + 1}"
        }

    def test_megabytes_are_refused_and_left_as_they_are(self) -> None:
        request = Request(line="e\u0301" * 500_000)
        assert violations(request) == {"line": "must have at most 5 characters, has 1000000"}
        assert len(request.line) == 1_000_000

    @pytest.mark.parametrize("value", ["A", " a", "a\n", "\u00e9"])
    def test_a_pattern_must_match_the_whole_text_as_it_is(self, value: str) -> None:
        request = Request(slug=value)
        assert violations(request) in ({"slug": "must be letters"}, {"slug": "must not contain control characters"})
        assert request.slug == value

    def test_text_with_a_pattern_has_a_length_too(self) -> None:
        assert not violations(Request(slug="a-b-c"))
        assert violations(Request(slug="a-b-cd")) == {"slug": "must have at most 5 characters, has 6"}


class TestNumbers:
    @pytest.mark.parametrize("fields", [{"width": 64}, {"width": 4096}, {"strength": 1.0}, {"strength": 1e-9}])
    def test_at_the_limit(self, fields: dict[str, Any]) -> None:
        assert not violations(Request(**fields))

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"width": 63}, "must be a multiple of 8, from 64 to 4096 pixels; is 63"),
            ({"width": 72 + 4}, "must be a multiple of 8, from 64 to 4096 pixels; is 76"),
            ({"width": 4104}, "must be a multiple of 8, from 64 to 4096 pixels; is 4104"),
            ({"width": 0}, "must be a multiple of 8, from 64 to 4096 pixels; is 0"),
            ({"strength": 0.0}, "must be greater than 0 and at most 1; is 0.0"),
            ({"strength": 1.5}, "must be greater than 0 and at most 1; is 1.5"),
            ({"seed": 2**53}, "must be from 0 to 9007199254740991; is 9007199254740992"),
            ({"page_size": -1}, "must be from 0 to 100; is -1"),
        ],
    )
    def test_beyond_the_limit(self, fields: dict[str, Any], problem: str) -> None:
        assert violations(Request(**fields)) == {next(iter(fields)): problem}

    @pytest.mark.parametrize("field", ["strength", "real"])
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_never_accepted(self, field: str, value: float) -> None:
        assert violations(Request(**{field: value})) == {field: f"must be a finite number; is {value}"}

    def test_what_is_greater_than_a_clamp_is_taken_as_the_greatest(self) -> None:
        request = Request(page_size=101, sizes=[9, 10, 2**31])
        assert not violations(request)
        assert request.page_size == 100
        assert list(request.sizes) == [9, 9, 9]

    @pytest.mark.parametrize(
        ("limits", "text"),
        [
            (Limits(), ""),
            (Limits(min=1), "at least 1"),
            (Limits(max=30, unit="steps"), "at most 30 steps"),
            (Limits(min=0, max=1, exclusive_min=True, exclusive_max=True), "greater than 0 and less than 1"),
            (Limits(min=0.25, max=0.5), "from 0.25 to 0.5"),
            (Limits(multiple_of=8), "a multiple of 8"),
        ],
    )
    def test_a_range_in_words(self, limits: Any, text: str) -> None:
        assert describe_range(limits) == text

    def test_a_model_may_check_numbers_by_limits_of_its_own(self) -> None:
        own = Limits(min=512, max=1024, multiple_of=64, unit="pixels")
        assert number_problem(1024, own) == ""
        assert number_problem(1088, own) == "must be a multiple of 64, from 512 to 1024 pixels; is 1088"


class TestOthers:
    def test_bytes(self) -> None:
        assert not violations(Request(mask=b"1234"))
        assert violations(Request(mask=b"12345")) == {"mask": "must be at most 4 bytes, has 5"}

    def test_enum_numbers_that_are_not_defined(self) -> None:
        assert not violations(Request(color=1, colors=[0, 1]))
        assert violations(Request(color=7, colors=[1, 8])) == {
            "color": "must be a value of Color; is 7",
            "colors[1]": "must be a value of Color; is 8",
        }

    def test_items_of_a_list(self) -> None:
        assert not violations(Request(tags=["a", "b", "c"]))
        assert violations(Request(tags=["a", "b", "c", "d"])) == {"tags": "must have at most 3 items, has 4"}
        assert violations(Request(tags=["abcdef", " "])) == {
            "tags[0]": "must have at most 5 characters, has 6",
            "tags[1]": "must not be empty",
        }

    def test_items_differ_once_they_are_normalised(self) -> None:
        assert not violations(Request(items=[item("a"), item("b")]))
        assert violations(Request(items=[item("a"), item("b"), item(" a ")])) == {
            "items[2].name": "must differ from the other items; item 0 has the same"
        }

    def test_fields_of_nested_messages_are_named_by_their_path(self) -> None:
        request = Request(
            items=[item(), item("b", weight=4.5)],
            item=item(children=[item(), item("x", children=[Item()])]),
            named={"x": Item()},
        )
        assert violations(request) == {
            "items[1].weight": "must be from -4 to 4; is 4.5",
            "item.children[1].children[0].name": "must not be empty",
            "named['x'].name": "must not be empty",
        }

    def test_maps(self) -> None:
        assert not violations(Request(metadata={"a": "x" * 9, "b": "é" * 4}))
        assert violations(Request(metadata={"a": "x" * 9, "b": "é" * 5})) == {
            "metadata": "must be at most 20 bytes, names included, has 21"
        }
        assert violations(Request(metadata={"a": "x" * 10, "B": "y"})) == {
            "metadata['a']": "must have at most 9 characters, has 10",
            "metadata['B']": "must be a name that matches [a-z]+",
        }


class TestRequired:
    def test_every_field_that_is_missing_is_named(self) -> None:
        assert violations(Required()) == {
            "line": "must not be empty",
            "lines": "must not be empty",
            "data": "must not be empty",
            "tags": "must not be empty",
            "color": "must be set",
            "item": "must be set",
            "count": "must be set",
        }

    def test_what_is_set(self) -> None:
        assert not violations(Required(line="x", lines="x\n", data=b"x", tags=["x"], color=1, item=item(), count=0))

    def test_blank_text_is_empty(self) -> None:
        request = Required(line=" \n", lines=" \n\t", data=b"x", tags=["x"], color=1, item=item(), count=1)
        assert violations(request) == {"line": "must not be empty", "lines": "must not be empty"}

    def test_in_a_oneof_only_the_field_that_is_set_is_required(self) -> None:
        assert not violations(Request())
        assert not violations(Request(id="x"))
        assert violations(Request(other="")) == {"other": "must not be empty"}
        request = Request(id=" x ")
        assert not violations(request)
        assert request.WhichOneof("name") == "id"

    def test_what_is_not_set_has_no_limits(self) -> None:
        assert not violations(Request(line="", lines="", slug="", mask=b"", page_size=0))


class TestError:
    def test_it_names_all_wrong_fields(self) -> None:
        with pytest.raises(errors.InvalidArgument) as raised:
            check(Request(line="x" * 6, width=63))
        assert raised.value.message == (
            "line: must have at most 5 characters, has 6; width: must be a multiple of 8, from 64 to 4096 pixels; is 63"
        )
        assert raised.value.reason == "INVALID_ARGUMENT"

    def test_it_stays_small_however_much_is_wrong(self) -> None:
        request = Request(items=[Item(weight=5, children=[Item()] * 50) for _ in range(40)], sizes=[0] * 40)
        assert len(violations(request)) == MAX_VIOLATIONS


class TestLimitsOfAField:
    def test_by_its_path(self) -> None:
        assert limits(Request, "strength").default == 0.6
        assert limits(Request.DESCRIPTOR, "items.weight").max == 4
        assert not limits(Request, "free").ListFields()

    @pytest.mark.parametrize("path", ["nothing", "line.length", "items.nothing"])
    def test_a_field_that_does_not_exist(self, path: str) -> None:
        with pytest.raises(KeyError):
            limits(Request, path)
