from __future__ import annotations

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.stages.filter import pii, signals


def emails(text):
    return [text[a:b] for a, b in pii.find_emails(text)]


def ips(text):
    return [text[a:b] for a, b in pii.find_ips(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("write to jane.doe@example.co.uk.", ["jane.doe@example.co.uk"]),
        ("<a_b+c@x-y.org>, (d@e.io)", ["a_b+c@x-y.org", "d@e.io"]),
        ("mailto:info@sub.domain.museum?subject=x", ["info@sub.domain.museum"]),
        ("'quoted@mail.com' and \"two@mail.com\"", ["quoted@mail.com", "two@mail.com"]),
        ("Пишите: ivan@почта.рф or ivan@pochta.ru", ["ivan@pochta.ru"]),
        ("X" * 500 + "@mail.com", ["X" * 64 + "@mail.com"]),
    ],
)
def test_email_addresses_are_found(text, found):
    assert emails(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "@user said", "a @ b.com", "lodash@4.17.21", "logo@2x.png", "user@localhost", "a@b", "x@y..z",
        ".@b.com", "@b.com",
        "foo@bar.com@baz", "a..b@c.com",
    ],
)  # fmt: skip
def test_what_is_no_email_address_is_left(text):
    assert emails(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("server 8.8.8.8, or 93.184.216.34.", ["8.8.8.8", "93.184.216.34"]),
        ("http://93.184.216.34/index and 93.184.216.34:8080", ["93.184.216.34", "93.184.216.34"]),
        ("ssh root@8.8.4.4 and sftp://me@93.184.216.34/x", ["8.8.4.4", "93.184.216.34"]),
        ("[151.101.1.69]", ["151.101.1.69"]),
        ("1.1.1.1 is a resolver"[:7], ["1.1.1.1"]),
    ],
)
def test_public_addresses_are_found(text, found):
    assert ips(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1", "192.168.1.1", "172.16.0.9", "127.0.0.1", "169.254.1.1", "0.0.0.0", "255.255.255.255",
        "224.0.0.251", "240.1.1.1",
        "192.0.2.7", "198.51.100.4", "203.0.113.9", "100.64.0.1", "version 1.2.3.4", "v. 2.0.50.7", "v1.2.3.4",
        "Version: 8.8.8.8",
        "Firefox/3.6.13.8", "name/1.2.3.4", "driver 61.3.4.2", "section 4.2.1.3", "4.2.1.3 Results of the study", "1.2.3.4.5",
        "256.1.1.1", "8.8.8",
        "08.8.8.8", "1.2.3.1234", "8.8.8.8-9", "x8.8.8.8",
    ],
)  # fmt: skip
def test_private_reserved_and_version_numbers_are_left(text):
    assert ips(text) == []


def test_masks_are_from_the_fixed_sets_and_the_same_for_the_same_address():
    text = "a@x.com b@y.org a@x.com and 8.8.8.8, 9.9.9.9, 8.8.8.8"
    masked = pii.mask(pii.mask(text, pii.find_emails, pii.EMAIL_MASKS), pii.find_ips, pii.IP_MASKS)
    one, two, three, _, first, second, third = masked.replace(",", "").split()
    assert one == three
    assert {one, two} <= set(pii.EMAIL_MASKS)
    assert first == third
    assert {first, second} <= set(pii.IP_MASKS)


def test_the_masks_for_addresses_are_public_addresses_themselves():
    assert len(set(pii.IP_MASKS)) == 6
    assert all(ipaddress.ip_address(mask).is_global for mask in pii.IP_MASKS)


pieces = st.lists(
    st.sampled_from(["a", "@", ".", "com", "8", "1.2.3.4", "8.8.8.8", " ", "\n", "é", "-", "x@y.de", "/", "v"]),
    max_size=30,
)


@given(pieces.map("".join))
def test_masking_changes_nothing_but_the_finds(text):
    for find, masks in ((pii.find_emails, pii.EMAIL_MASKS), (pii.find_ips, pii.IP_MASKS)):
        spans = find(text)
        assert all(0 <= a < b <= len(text) for a, b in spans)
        assert all(b <= c for (_, b), (c, _) in itertools.pairwise(spans))
        rest = "".join(
            text[b:c] for b, c in zip([0, *(b for _, b in spans)], [*(a for a, _ in spans), len(text)], strict=True)
        )
        masked = pii.mask(text, find, masks)
        for mask in masks:
            masked = masked.replace(mask, "")
        for mask in masks:
            rest = rest.replace(mask, "")
        assert masked == rest


@given(st.lists(pieces.map("".join), max_size=4))
def test_the_signals_count_what_the_finders_find(texts):
    table = signals(texts, ["pii_emails", "pii_ips"], lines=None)
    assert table.column("pii_emails").to_pylist() == [len(pii.find_emails(text)) for text in texts]
    assert table.column("pii_ips").to_pylist() == [len(pii.find_ips(text)) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10**6,
        "!a" * 500_000,
        "a@" * 500_000,
        "@" * 10**6,
        "a." * 500_000 + "@",
        "1." * 500_000,
        "a@" + "b." * 500_000,
    ],
    ids=lambda text: text[:6],
)
def test_a_hostile_megabyte_is_searched_before_the_suite_times_out(text):
    assert emails(text) == ips(text) == []  # in quadratic time it would take hours
