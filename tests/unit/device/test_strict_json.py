"""`device.strict_json`: where the fault is, and what people left there; never what stands there."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.device.errors import ConfigurationFileError
from mtls_ambassador.device.strict_json import read_object


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{\n  // mine\n  "a": 1\n}', ["line 2, column 3", "a comment at line 2, column 3"]),
        ('{"a": 1} # mine', ["line 1, column 10", "a comment at line 1, column 10"]),
        ('{/* two\nlines */ "a": 1}', ["a comment at line 1, column 2"]),
        ('{"a": "http://x",}', ["a trailing comma at line 1, column 17"]),
        ('{"a": [1, 2,\n], // c\n}', ["a trailing comma at line 1, column 12", "a trailing comma at line 2, column 2"]),
        ('{"a": 1, // c\n}', ["a trailing comma at line 1, column 8, a comment at line 1, column 10"]),
    ],
)
def test_comments_and_trailing_commas_are_named(text: str, says: list[str]) -> None:
    with pytest.raises(ConfigurationFileError) as error:
        read_object(text, "mender.conf")
    assert str(error.value).startswith("mender.conf is not valid JSON: line ")
    for part in says:
        assert part in error.value.what
    assert "take them out" in error.value.remedy


@pytest.mark.parametrize(
    "text", ['{"a": 1} secret', '{"a": "secret', "secret", '{"a": secret}', '{"a" 1, "b": "// secret"}']
)
def test_other_faults_are_not_called_comments_and_nothing_is_quoted(text: str) -> None:
    with pytest.raises(ConfigurationFileError) as error:
        read_object(text, "f")
    assert "comment at" not in str(error.value)
    assert "comma at" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "not a JSON object"),
        ('{"a": 1, "a": 2}', "a stands twice"),
        ('{"a": {"b": 1, "b": 1}}', "b stands twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_what_json_lets_pass(text: str, says: str) -> None:
    with pytest.raises(ConfigurationFileError, match=says):
        read_object(text, "f")


def test_at_most_five_are_named() -> None:
    with pytest.raises(ConfigurationFileError) as error:
        read_object("{\n" + "// c\n" * 100 + "}", "f")
    assert error.value.what.count("a comment") == 5


@given(st.text(alphabet='{}[]",:/*# \n\\a1'))
def test_any_text_is_an_object_or_an_error(text: str) -> None:
    with contextlib.suppress(ConfigurationFileError):
        assert isinstance(read_object(text, "f"), dict)
