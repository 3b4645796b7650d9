from __future__ import annotations

import ipaddress
import itertools
import random
import string
from time import process_time

import phonenumbers
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curate.stages.filter import pii, signals
from curate.stages.filter.config import PiiConfig
from curate.stages.filter.pii import addresses, ibans
from curate.stages.text import segment

ALL = PiiConfig(emails=True, ips=True, phones=True, ibans=True)
OWN = PiiConfig(emails=["|||EMAIL_ADDRESS|||"], ips=["|||IP|||"], phones=["|||PHONE|||"], ibans=["|||IBAN|||"])


def spans(texts):
    found = pii.find(segment(texts))
    lists = [[] for _ in texts]
    for row, kind, start, stop in zip(found.row, found.kind, found.start, found.stop, strict=True):
        lists[row].append((pii.KINDS[kind], int(start), int(stop)))
    return lists


def found(text, kind=None):
    return [text[start:stop] for name, start, stop in spans([text])[0] if kind in (None, name)]


def masked(text, config=ALL):
    return pii.mask(pa.array([text]), pii.find(segment([text])), config)[0].as_py()


@pytest.mark.parametrize(
    ("text", "emails"),
    [
        ("write to jane.doe@example.co.uk.", ["jane.doe@example.co.uk"]),
        ("<a_b+c@x-y.org>, (d@e.io)", ["a_b+c@x-y.org", "d@e.io"]),
        ("mailto:info@sub.domain.museum?subject=x", ["info@sub.domain.museum"]),
        ("'quoted@mail.com' and \"two@mail.com\"", ["quoted@mail.com", "two@mail.com"]),
        ("o'brien@mail.ie", ["o'brien@mail.ie"]),
        ("?to=joe@mail.com&x=1", ["joe@mail.com"]),
        ("иван@почта.рф or jörg@bücher.de", ["иван@почта.рф", "jörg@bücher.de"]),
        ("联系abc@qq.com吧", ["abc@qq.com"]),
        ("a@xn--bcher-kva.xn--p1ai", ["a@xn--bcher-kva.xn--p1ai"]),
        ("me@mail.example.Thanks for all", ["me@mail.example"]),
        ("redaktion@zeitung.deImpressum", ["redaktion@zeitung.de"]),
        ("Contact.....desk@inn.ie", ["desk@inn.ie"]),
        ("X" * 64 + "@mail.com", ["X" * 64 + "@mail.com"]),
    ],
)
def test_email_addresses_are_found(text, emails):
    assert found(text) == emails


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "@user said", "a @ b.com", "lodash@4.17.21", "logo@2x.png", "user@localhost", "a@b", "x@y..z",
        ".@b.com",
        "@b.com", "foo@bar.com@baz", "@jane@mastodon.social", "git@github.com:a/b.git", "ftp://me:word@host.org/x",
        "a.@b.com", "X" * 65 + "@mail.com",
    ],
)  # fmt: skip
def test_what_is_no_email_address_is_left(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "ips"),
    [
        ("server 8.8.8.8, or 93.184.216.34.", ["8.8.8.8", "93.184.216.34"]),
        ("http://93.184.216.34/index and 93.184.216.34:8080", ["93.184.216.34", "93.184.216.34"]),
        ("ssh root@8.8.4.4 and sftp://me@93.184.216.34/x", ["8.8.4.4", "93.184.216.34"]),
        ("[151.101.1.69]", ["151.101.1.69"]),
        ("8.8.8.8,9.9.9.9", ["8.8.8.8", "9.9.9.9"]),
        ("the host 12.3.4.5 answers", ["12.3.4.5"]),
        ("IPアドレスは203.104.27.33です", ["203.104.27.33"]),
        ("1.1.1.1", ["1.1.1.1"]),
        ("93.184.216.34-93.184.216.40", ["93.184.216.34", "93.184.216.40"]),
        ("ping 2600::", ["2600::"]),
        ("2001:4860:4860::8888.", ["2001:4860:4860::8888"]),
        ("http://[2606:4700::1111]:8080/ 2a00:1450:4001:81b:0:0:0:200e", ["2606:4700::1111", "2a00:1450:4001:81b:0:0:0:200e"]),
        ("from ::ffff:151.101.1.69 port 22", ["::ffff:151.101.1.69"]),
    ],
)  # fmt: skip
def test_public_ip_addresses_are_found(text, ips):
    assert found(text, "ip") == ips


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1", "192.168.1.1", "172.16.0.9", "127.0.0.1", "169.254.1.1", "0.0.0.0", "255.255.255.255",
        "224.0.0.251",
        "240.1.1.1", "192.0.2.7", "198.51.100.4", "203.0.113.9", "100.64.0.1", "version 1.2.3.4", "v. 2.0.50.7",
        "v1.2.3.4",
        "Version: 8.8.8.8", "Firefox/3.6.13.8", "name/1.2.3.4", "driver 61.3.4.2", "section 4.2.1.3", "§ 4.2.1.99",
        "4.2.1.3 Results of the study", "Chromium 96.0.46.9 is out", "see 12.4.3.1 for details", "1.2.3.4.5",
        "256.1.1.1", "8.8.8",
        "08.8.8.8", "1.2.3.1234", "8.8.8.8-9", "x8.8.8.8", "EC 3.4.21.4", "€ 1.200.150.100", "1.200.150.100,00",
        "fe80::1:2:3", "fc00::1:2:3", "ff02::1:2:3", "::1", "2001:db8:1::1", "3fff:1:2::1", "64:ff9b::1.2.3.4",
        "::ffff:10.0.0.1",
        "std::vector<int>", "dead::beef::cafe", "A::B::C", "2020::bar", "12:34:56", "00:1A:2B:3C:4D:5E",
        "2012:05:04 10:20:30",
        "2024:12:31", "sha 2f0e:9d", "3d2c:b1a0:x",
    ],
)  # fmt: skip
def test_private_and_reserved_addresses_and_other_numbers_are_left(text):
    assert found(text, "ip") == []


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_public_ipv4_addresses_are_those_that_the_registry_calls_global(number):
    address = ipaddress.IPv4Address(number)
    if address not in ipaddress.ip_network("192.0.0.0/24"):  # two of it are global since Python 3.12
        expected = address.is_global and not address.is_multicast and not address.is_reserved
        assert addresses.is_public(str(address)) == expected


@settings(deadline=None)
@given(
    st.integers(0, 2**125 - 1), st.sampled_from([0, 0x20010DB8 << 96, 0x2001 << 112, 0x2002 << 112, 1 << 125, 1 << 125])
)
def test_public_ipv6_addresses_are_those_that_the_registry_calls_global(number, prefix):
    address = ipaddress.IPv6Address(number % 2**96 | prefix if prefix != 1 << 125 else number | prefix)
    known = address.is_global and not address.is_multicast and not address.is_reserved and address.ipv4_mapped is None
    if not any(address in ipaddress.ip_network(network) for network in ("3fff::/20", "2001::/23", "2002::/16")):
        assert addresses.is_public(str(address)) == addresses.is_public(address.exploded) == known


@settings(deadline=None)
@given(st.integers(1 << 125, (1 << 126) - 1), st.sampled_from([str, lambda a: a.exploded, lambda a: str(a).upper()]))
def test_a_public_ipv6_address_is_found_however_it_is_written(number, written):
    address = written(ipaddress.IPv6Address(number))
    expected = [address] if addresses.is_public(address) else []
    assert found(f"the host [{address}]:80") == expected


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("+49 30 901820, +44 (0) 20 7946 0958; +1-415-555-2671", ["+49 30 901820", "+44 (0) 20 7946 0958", "+1-415-555-2671"]),
        ("(+49) 30 901820 (+33 1 42 68 53 00)", ["(+49) 30 901820", "+33 1 42 68 53 00"]),
        ("0049 30 901820 or 00 49 30 901821", ["0049 30 901820", "00 49 30 901821"]),
        ("011 44 20 7946 0958", ["011 44 20 7946 0958"]),
        ("800 223 2500, 1 800 223 2500", ["800 223 2500", "1 800 223 2500"]),
        ("+1.4155552671", ["+1.4155552671"]),
        ("Tel.+49 30 901820Fax +49 30 901821", ["+49 30 901820", "+49 30 901821"]),
        ("(415) 555-2671 or 415-555-2671, 1-415-555-2671, 415.555.2671",
         ["(415) 555-2671", "415-555-2671", "1-415-555-2671", "415.555.2671"]),
        ("San Francisco, CA 94103 415-555-2671", ["415-555-2671"]),
        ("(so: 415-555-2671)", ["415-555-2671"]),
        ("01 42 68 53 00", ["01 42 68 53 00"]),
        ("030/901820, (030) 901820 and 0 61 51 / 405 -0", ["030/901820", "(030) 901820", "0 61 51 / 405 -0"]),
        ("020 7946 0958 03-1234-5678 0412 345 678"[:13], ["020 7946 0958"]),
        ("お電話は03-1234-5678まで", ["03-1234-5678"]),
        ("8 (495) 123-45-67", ["8 (495) 123-45-67"]),
        ("(11) 91234-5678", ["(11) 91234-5678"]),
        ("138 1234 5678", ["138 1234 5678"]),
        ("Tel.: 123 45 67, 234 56 78", ["123 45 67", "234 56 78"]),
        ("电话：4008123456", ["4008123456"]),
        ("call us on 9876543210", ["9876543210"]),
        ("Phone\n555-1234", ["555-1234"]),
        ("Call\u00a0+1\u202f415\u2011555\u20112671", ["+1\u202f415\u2011555\u20112671"]),
    ],
)  # fmt: skip
def test_telephone_numbers_are_found(text, phones):
    assert found(text) == phones


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-15", "15.01.2024", "01/02/2024 10:30", "01.02.2024 - 05.02.2024", "2019-2023", "1989 1990 1991 1992",
        "12:30:45",
        "ISBN 0-306-40615-2", "ISBN 978-3-16-148410-0", "ISSN 0317-8471", "1,234,567.89", "1 234 567 EUR",
        "€ 0800 123 456",
        "order 415-555-2671", "Order no. 0621 123456", "#0621-123456", "52.520008, 13.404954", "+52.520008",
        "+48.8566 -2.3522",
        "3.14159265", "0.123456789", "17.093994855880737", "1234567890123456", "id=4155552671",
        "/news/415-555-2671.html",
        "ABC-415-555-2671", "4155552671", "1700000000", "078-05-1120", "0123-4567-8901", "pp. 333-337, 2014-205577",
        "01 02 03 04 05 06 07 08 09", "1 2 3 4 5 6 7 8 9 10 11 12", "+1 +1 +1", "C++ 11 2011 2014", "112", "call 911",
        "phone 3.14159265", "call in 2019-2020", "Tel. 15.01.2024", "Réf. 01 23 45 67 89", "+1 555 0100",
    ],
)  # fmt: skip
def test_what_is_no_telephone_number_is_left(text):
    assert found(text) == []


@pytest.mark.parametrize(
    "region", ["US", "DE", "GB", "FR", "IT", "ES", "PL", "NL", "RU", "BR", "IN", "CN", "JP", "AU", "ZA", "MX", "CH"]
)
@pytest.mark.parametrize("kind", [phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE])
def test_the_example_numbers_of_every_country_are_found_in_international_form(region, kind):
    example = phonenumbers.example_number_for_type(region, kind)
    for form in (phonenumbers.PhoneNumberFormat.INTERNATIONAL, phonenumbers.PhoneNumberFormat.E164):
        number = phonenumbers.format_number(example, form)
        assert found(f"reach me ({number}) any day") == [number]
    national = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL)
    assert found(f"Tel.: {national}.") == [national]


def iban(country, rest):
    """Check digits by long division, digit by digit (ISO 7064)."""
    remainder = 0
    for sign in rest + country + "00":
        for digit in str(
            string.digits.index(sign) if sign in string.digits else string.ascii_uppercase.index(sign) + 10
        ):
            remainder = (remainder * 10 + int(digit)) % 97
    return f"{country}{98 - remainder:02}{rest}"


numbers = st.sampled_from(sorted(ibans.LENGTHS.items())).flatmap(
    lambda entry: st.text("JW0123456789", min_size=entry[1] - 4, max_size=entry[1] - 4).map(
        lambda rest: iban(entry[0], rest)
    )
)


@settings(deadline=None)
@given(numbers, st.sampled_from(["", " ", "\u00a0", "-"]))
def test_an_iban_is_found_whole_or_in_fours_and_not_with_another_digit_wrong(number, gap):
    written = gap.join(number[i : i + 4] for i in range(0, len(number), 4))
    assert found(f"IBAN:{written}, BIC", "iban") == [written]
    changed = [i for i in range(4, len(number)) if number[i].isdigit()]
    if changed:
        wrong = number[: changed[0]] + str((int(number[changed[0]]) + 1) % 10) + number[changed[0] + 1 :]
        assert found(wrong, "iban") == []
    assert found(written.lower(), "iban") == []
    assert found(f"X{written}", "iban") == found(f"{written}0", "iban") == []


def test_an_iban_in_other_groups_or_of_another_length_is_none():
    assert found("DE893 7040 0440 5320 1300 0") == []
    assert found("DE89 3704 0044  0532 0130 00") == []
    assert found("DE8937040044053201300") == []
    assert found("XX89370400440532013000") == []


PIECES = [
    "a", "@", ".", "com", "8", "1.2.3.4", "93.184.216.34", " ", "\n", "é", "日本", "😀", "-", "x@y.de", "/", "v", "+",
    "+49 30 901820",
    "(415) 555-2671", "Tel. ", "1234567", ":", "::", "2606:4700::1111", "std::", "DE89 3704 0044 0532 0130 00",
    "GB82WEST12345698765432",
    "(", ")", "01 42 68 53 00", ", ", "IP ", "http://", *pii.EMAIL_MASKS, *pii.IP_MASKS[:2], pii.PHONE_MASKS[0],
    *pii.IBAN_MASKS,
]  # fmt: skip
pieces = st.lists(st.sampled_from(PIECES), max_size=24).map("".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=4))
def test_finds_lie_within_their_text_in_order_and_apart(texts):
    batch = pii.find(segment(texts))
    assert list(batch.row) == sorted(batch.row)
    for text, one in zip(texts, spans(texts), strict=True):
        assert all(0 <= start < stop <= len(text) for _, start, stop in one)
        assert all(before[2] <= after[1] for before, after in itertools.pairwise(one))
        assert one == spans([text])[0]  # whatever stands in the same batch


@settings(max_examples=200, deadline=None)
@given(pieces)
def test_masking_changes_the_finds_and_nothing_else(text):
    result = masked(text)
    rest, behind = result, 0
    for _, start, stop in spans([text])[0]:
        assert rest.startswith(text[behind:start])
        rest = rest[start - behind :]
        mask = max((mask for mask in every_mask(ALL) if rest.startswith(mask)), key=len)
        rest, behind = rest[len(mask) :], stop
    assert rest == text[behind:]
    assert found(result) == []


@settings(max_examples=200, deadline=None)
@given(
    pieces, st.sampled_from([ALL, OWN, PiiConfig(emails=["|||EMAIL_ADDRESS|||"]), PiiConfig(phones=["x"], ips=True)])
)
def test_masking_twice_changes_nothing_more(text, config):
    assert masked(masked(text, config), config) == masked(text, config)


def every_mask(config):
    if config is OWN:
        return [*config.emails, *config.ips, *config.phones, *config.ibans]
    return [*pii.EMAIL_MASKS, *pii.IP_MASKS, *pii.IPV6_MASKS, *pii.PHONE_MASKS, *pii.IBAN_MASKS]


def test_the_masks_themselves_are_never_found():
    for mask in (*every_mask(ALL), *every_mask(OWN)):
        assert found(mask) == found(f"Tel. {mask} call {mask}, IP {mask}: {mask}") == []


def test_a_mask_is_chosen_by_the_address_from_the_fixed_set():
    text = "a@x.com b@y.org a@x.com | IP 93.184.216.34, 2606:4700::1111, 93.184.216.34 | +49 30 901820 | GB82WEST12345698765432"
    mails, ips, phone, account = masked(text).split(" | ")
    one, two, three = mails.split()
    first, second, third = ips.removeprefix("IP ").split(", ")
    assert one == three
    assert {one, two} <= set(pii.EMAIL_MASKS)
    assert first == third
    assert first in pii.IP_MASKS
    assert second in pii.IPV6_MASKS
    assert phone in pii.PHONE_MASKS
    assert account in pii.IBAN_MASKS
    assert masked(text) == masked(text)


def test_the_usual_masks_are_fine_webs():
    assert pii.EMAIL_MASKS == ("email@example.com", "firstname.lastname@example.org")
    assert len(set(pii.IP_MASKS)) == 6
    assert all(ipaddress.ip_address(mask).is_global for mask in pii.IP_MASKS)
    assert all(ipaddress.ip_address(mask) in ipaddress.ip_network("2001:db8::/32") for mask in pii.IPV6_MASKS)


def test_only_the_kinds_that_the_recipe_masks_are_masked():
    text = "a@x.com, IP 93.184.216.34, +49 30 901820, GB82WEST12345698765432"
    assert masked(text, PiiConfig()) == text
    dolma = PiiConfig(emails=["|||EMAIL_ADDRESS|||"], phones=["|||PHONE_NUMBER|||"])
    assert masked(text, dolma) == "|||EMAIL_ADDRESS|||, IP 93.184.216.34, |||PHONE_NUMBER|||, GB82WEST12345698765432"


def test_texts_without_finds_keep_their_bytes_and_nulls():
    texts = pa.array(["é plain", None, "write a@x.com", ""], pa.large_string())
    result = pii.mask(texts, pii.find(segment(texts)), ALL)
    assert result.type == texts.type
    assert result.to_pylist()[:2] + result.to_pylist()[3:] == ["é plain", None, ""]
    assert result[2].as_py().removeprefix("write ") in pii.EMAIL_MASKS


@settings(deadline=None)
@given(st.lists(pieces, max_size=4))
def test_finds_survive_as_a_column(texts):
    batch = pii.find(segment(texts))
    column = batch.spans(len(texts))
    assert column.type == pii.SPANS
    expected = [[{"kind": k, "start": a, "stop": b} for k, a, b in one] for one in spans(texts)]
    assert column.to_pylist() == expected
    for again in (pii.Found.of(column), pii.Found.of(pa.chunked_array([column.slice(0, 1), column.slice(1)]))):
        assert again.spans(len(texts)).to_pylist() == expected
    assert pii.Found.of(column.slice(1)).spans(max(len(texts) - 1, 0)).to_pylist() == expected[1:]


@settings(deadline=None)
@given(st.lists(pieces, max_size=4))
def test_the_signals_count_what_is_found(texts):
    names = {"pii_emails": "email", "pii_ips": "ip", "pii_phones": "phone", "pii_ibans": "iban", "pii_spans": None}
    table = signals(texts, list(names), lines=None)
    for name, kind in names.items():
        counts = [sum(kind in (None, one) for one, _, _ in places) for places in spans(texts)]
        assert table.column(name).to_pylist() == counts


def test_positions_count_characters_also_behind_bytes_that_are_no_utf8():
    data = "日本 a@x.com".encode() + b" \xe2\x82 \xff\xfe b@y.org"
    texts = pa.StringArray.from_buffers(1, pa.array([0, len(data)], pa.int32()).buffers()[1], pa.py_buffer(data))
    batch, text = segment(texts), data.decode("utf-8", "replace")
    result = pii.find(batch)
    assert [text[a:b] for a, b in zip(result.start, result.stop, strict=True)] == ["a@x.com", "b@y.org"]
    assert batch[0] == text


@pytest.mark.parametrize("before", range(48))
def test_an_address_is_found_wherever_it_lies_among_the_bytes(before):
    assert found("x" * before + " 93.184.216.34 " + "y" * (48 - before)) == ["93.184.216.34"]


@pytest.mark.parametrize("bad", [["a@b.com"], "|||EMAIL|||", [], [""], [1], ["call 415-555-2671"]])
def test_masks_that_are_addresses_or_no_list_are_refused(bad):
    with pytest.raises(ValidationError, match=r"give true, false|address itself|empty mask"):
        PiiConfig(emails=bad)


MEGABYTE = 10**6
HOSTILE = [
    "a", "!a", "a@", "@", "a.", "1.", "1", "1.1.1.1.", "::::", "+1 ", "+", "(", "(0", "00491 ", "a@b.", "2001:",
    "::ffff:", "DE89 ",
    "AB12", "0 1 2 3 ", "415-555-", "+49 30 1 2 3 4 ", "tel 1234567 ", "o'", "é@", "日@日.", "x@" + "a." * 50, "1-2",
    "é1.2.3.4é",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=lambda piece: piece[:8])
def test_time_grows_with_the_text_and_no_faster(piece):
    def seconds(size):
        batch = segment([piece * (size // len(piece))])
        began = process_time()
        pii.find(batch)
        return process_time() - began

    seconds(1000)
    small = min(seconds(MEGABYTE // 20) for _ in range(2))
    assert seconds(MEGABYTE // 4) < 5 * small * 3 + 0.2  # quadratic: 25 times as long


def test_of_a_flood_only_the_first_places_are_looked_at():
    flood = "a@mail.example " * (pii.MOST_PLACES + 100)
    assert len(found(flood)) == pii.MOST_PLACES


def test_many_finds_are_found_in_a_long_text():
    generator = random.Random(1)
    wanted = [f"u{generator.randrange(10**9)}@mail.example" for _ in range(5_000)]
    assert found(" é ".join(wanted)) == wanted


def test_of_one_endless_run_of_numbers_only_the_first_part_is_looked_at():
    assert found("81.92.53.14 " * (2 * pii.MOST_BYTES // 12)) == ["81.92.53.14"] * -(-pii.MOST_BYTES // 12)
