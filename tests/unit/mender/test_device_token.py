"""The device id and the tenant in Mender's tokens, and tokens that have none."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_ambassador.mender.device_token import DeviceToken, read_device_token, tenant_of

ID = "1b2c3d4e-0000-4000-8000-000000000001"


def token(claims: object) -> bytes:
    return b"e30." + base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=") + b".c2ln"


@pytest.mark.parametrize("more", [{}, {"x": "y"}, {"x": "yy"}, {"x": "yyy"}])
def test_reads_the_subject(more: dict[str, str]) -> None:
    assert read_device_token(token({"sub": ID, **more})).device_id == ID
    assert read_device_token(token({"sub": ID, **more}) + b"\n").device_id == ID


@pytest.mark.parametrize("claims", [{}, {"sub": 7}, {"sub": ""}, {"sub": "a/b"}, {"sub": "a" * 65}, [], "x", None])
def test_a_token_without_a_device_id(claims: object) -> None:
    assert read_device_token(token(claims)) == DeviceToken(None, "")


@given(st.binary())
def test_anything_else_is_no_token(body: bytes) -> None:
    assert read_device_token(body) == DeviceToken(None, "") or b"." in body


@pytest.mark.parametrize(
    "body", [b"", b".", b"..", b"a.b.c", b"a.b.c.d", b"\xff.\xff.\xff", b"a." + b"W" * 100000 + b".c"]
)
def test_odd_bodies(body: bytes) -> None:
    assert read_device_token(body) == DeviceToken(None, "")


def test_the_tenant() -> None:
    assert read_device_token(token({"sub": ID, "mender.tenant": "t-1"})) == DeviceToken(ID, "t-1")
    assert tenant_of(token({"mender.tenant": "t-1"}).decode()) == "t-1"
    assert tenant_of(token({"sub": ID}).decode()) == "", "the open-source server has no tenants"
    assert tenant_of("a personal access token of another form") is None
