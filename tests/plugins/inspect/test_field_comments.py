"""Comments and docstrings as descriptions."""

from __future__ import annotations

from attrs import field, frozen, make_class

from imginav_inspect.field_comments import comment_of, summary_of


@frozen(kw_only=True)
class Base:
    """What it is,
    over two lines.

    And more.
    """

    first: int  # of the base
    second: int  # of the base, too
    text: str = "# no comment"
    nothing: int = 1


@frozen(kw_only=True)
class Derived(Base):
    second: str = field(  # type: ignore[assignment]
        default="x"
    )
    several: int = field(
        default=1,
    )  # on the last line
    within: int = field(
        default=1,  # on the line of the default
    )
    unused: int = "1"  # type: ignore[assignment]  # after what tools read
    secret: str = "abc"  # what it is  # noqa: S105
    # A line of its own belongs to none.
    last: int = 0  # see issue #3


def test_a_comment_stands_behind_its_field() -> None:
    assert comment_of(Base, "first") == "of the base"
    assert comment_of(Derived, "last") == "see issue #3"
    assert (comment_of(Base, "text"), comment_of(Base, "nothing"), comment_of(Base, "unknown")) == ("", "", "")


def test_a_comment_may_stand_on_any_line_of_a_field() -> None:
    assert comment_of(Derived, "several") == "on the last line"
    assert comment_of(Derived, "within") == "on the line of the default"


def test_a_field_without_one_has_that_of_the_class_that_it_overrides() -> None:
    assert comment_of(Derived, "first") == "of the base"
    assert comment_of(Derived, "second") == "of the base, too"


def test_what_tools_read_is_left_out() -> None:
    assert comment_of(Derived, "unused") == "after what tools read"
    assert comment_of(Derived, "secret") == "what it is"


def test_a_class_without_source_has_no_comments() -> None:
    assert comment_of(make_class("Made", ["first"]), "first") == ""
    assert comment_of(int, "real") == ""


def test_the_summary_is_the_first_paragraph_as_one_line() -> None:
    assert summary_of(Base) == "What it is, over two lines."
    assert summary_of(make_class("Made", ["first"])) == ""
