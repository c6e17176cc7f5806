"""Connection URIs: what they mean, and what is refused with which hint."""

from __future__ import annotations

import pytest

from redwire.errors import UriInvalid
from redwire.routing import AnyNode, InRegion, Nearest, Primary
from redwire.uri import ConnectionConfig, parse

TABLE = [
    ("reds://h", ConnectionConfig(("h:5050",))),
    ("reds://h:5051/", ConnectionConfig(("h:5051",))),
    ("reds://h/?", ConnectionConfig(("h:5050",))),
    ("reds://a:1,b,c:3", ConnectionConfig(("a:1", "b:5050", "c:3"))),
    ("reds://a,a:5050,b", ConnectionConfig(("a:5050", "b:5050"))),
    ("reds://[2001:db8::1]:7,[::1]", ConnectionConfig(("[2001:db8::1]:7", "[::1]:5050"))),
    ("reds://u:p@h", ConnectionConfig(("h:5050",), user="u", password="p")),
    ("reds://u%40x:p%3A%2f%40@h", ConnectionConfig(("h:5050",), user="u@x", password="p:/@")),
    ("reds://u:p:q@h", ConnectionConfig(("h:5050",), user="u", password="p:q")),
    ("reds://h?token=a%2Bb+c", ConnectionConfig(("h:5050",), token="a+b+c")),
    (
        "reds://h/?ca=ca.pem&cert=/etc/c.pem&key=k%20k.pem",
        ConnectionConfig(("h:5050",), ca="ca.pem", cert="/etc/c.pem", key="k k.pem"),
    ),
    (
        "reds://h/?region=us&discovery=off&timeout_ms=250",
        ConnectionConfig(("h:5050",), region="us", discovery=False, timeout_ms=250),
    ),
    ("reds://h/?discovery=on&&", ConnectionConfig(("h:5050",))),
    ("reds://h/?read=primary", ConnectionConfig(("h:5050",), read=Primary())),
    ("reds://h/?read=nearest", ConnectionConfig(("h:5050",), read=Nearest())),
    ("reds://h/?read=any", ConnectionConfig(("h:5050",), read=AnyNode())),
    ("reds://h/?read=region:eu", ConnectionConfig(("h:5050",), read=InRegion("eu"))),
    ("red://localhost", ConnectionConfig(("localhost:5050",), tls=False)),
    ("red://127.0.0.1:7001,127.9.9.9", ConnectionConfig(("127.0.0.1:7001", "127.9.9.9:5050"), tls=False)),
    ("red://[::1]:1", ConnectionConfig(("[::1]:1",), tls=False)),
]


@pytest.mark.parametrize(("uri", "config"), TABLE, ids=[uri for uri, _ in TABLE])
def test_a_uri_means_its_configuration(uri: str, config: ConnectionConfig) -> None:
    assert parse(uri) == config


def test_the_defaults_are_safe() -> None:
    config = parse("reds://h")
    assert (config.tls, config.discovery, config.timeout_ms, config.read) == (True, True, 10_000, Primary())


REFUSED = [
    ("", "no RedWire URI"),
    ("h:5050", "no RedWire URI"),
    ("http://h", "no RedWire URI"),
    ("REDS://h", "no RedWire URI"),
    ("reds://h#x", "a URI has no #"),
    ("reds:///", "'' is no host"),
    ("reds://a,,b", "'' is no host"),
    ("reds://a b", "'a b' is no host"),
    ("reds://::1", "brackets"),
    ("reds://[::1", "no host"),
    ("reds://h:0", "port 0 of"),
    ("reds://h:65536", "port 65536 of"),
    ("reds://h:99999999999999999999", "is not 1 to 65535"),
    ("reds://h:x", "no host"),
    ("reds://app:pa/geheim@h/?ca=x", "the password, or the user, ends at a /, ? or # before the @"),
    ("reds://app:pa?geheim@h/?ca=x", "ends at a /, ? or # before the @; percent-encode what is not a letter"),
    ("reds://app:geheim?x=y@h/?ca=x", "ends at a /, ? or # before the @"),
    ("reds://app:pa#geheim@h/?ca=x", "ends at a /, ? or # before the @"),
    ("reds://app:pa@geheim/more@h/?ca=x", "ends at a /, ? or # before the @"),
    ("reds://h/?ca=x#geheim", "a URI has no #"),
    ("reds://app:geheim?x&ca=t@h", "ends at a /, ? or # before the @"),
    ("reds://app:geheim?token=a@h", "ends at a /, ? or # before the @"),
    ("reds://h:5050/?usr=a@b", "unknown parameter 'usr'"),
    ("reds://h/?ca=a@b&tiemout_ms=3", "unknown parameter 'tiemout_ms'"),
    ("reds://h/db", "no path, this one has '/db'"),
    ("red://h", "red:// is plain text, and 'h' is not this machine; write reds://"),
    ("red://localhost,h", "'h' is not this machine"),
    ("red://127.0.0.1.example.com", "is not this machine"),
    ("red://1270.0.0.1", "is not this machine"),
    ("red://localhost/?ca=x", "certificates mean nothing to red://"),
    ("reds://u@h", "user:password"),
    ("reds://:p@h", "user:password"),
    ("reds://u:@h", "user:password"),
    ("reds://u:%ff@h", "the password is not UTF-8"),
    ("reds://u:\udcff@h", "the password is not UTF-8"),
    ("reds://h?token=\ud800", "the token is not UTF-8"),
    ("reds://u:p@h?token=t", "both a password and a token"),
    ("reds://h?cert=c", "both `cert` and `key`"),
    ("reds://h?key=c", "both `cert` and `key`"),
    ("reds://h?regoin=us", "unknown parameter 'regoin'; did you mean region"),
    ("reds://h?timeout=1", "did you mean timeout_ms"),
    ("reds://h?policy=1", "unknown parameter 'policy'; one of ca, cert, key, region"),
    ("reds://h?CA=1", "did you mean ca"),
    ("reds://h?region=a&region=b", "'region' stands twice"),
    ("reds://h?region=", "'region' has no value"),
    ("reds://h?region", "'region' has no value"),
    ("reds://h?region=%ff", "the region is not UTF-8"),
    ("reds://h?ca=a%00", "parameter 'ca' holds a NUL"),
    ("reds://h?discovery=maybe", "on or off, not 'maybe'"),
    ("reds://h?timeout_ms=0", "timeout_ms is 1 to"),
    ("reds://h?timeout_ms=-5", "timeout_ms is 1 to"),
    ("reds://h?timeout_ms=86400001", "timeout_ms is 1 to"),
    ("reds://h?timeout_ms=\u0661", "timeout_ms is 1 to"),
    ("reds://h?read=fast", "unknown read mode 'fast'; one of primary, nearest, any, region:<name>"),
    ("reds://h?read=nearst", "unknown read mode 'nearst'; did you mean nearest?"),
    ("reds://h?read=regoin:eu", "unknown read mode 'regoin:eu'; did you mean region:<name>?"),
    ("reds://h?read=region:", "unknown read mode 'region:'; did you mean region:<name>?"),
]


@pytest.mark.parametrize(("uri", "what"), REFUSED, ids=[uri or "empty" for uri, _ in REFUSED])
def test_a_uri_that_cannot_be_used_says_why(uri: str, what: str) -> None:
    with pytest.raises(UriInvalid) as refused:
        parse(uri)
    assert what in str(refused.value) and "geheim" not in str(refused.value)


def test_limits_hold_at_their_edge() -> None:
    hosts = [f"h{n}" for n in range(64)]
    assert len(parse("reds://" + ",".join(hosts)).seeds) == 64
    with pytest.raises(UriInvalid, match="names 65 hosts, at most 64"):
        parse("reds://" + ",".join([*hosts, "more"]))
    with pytest.raises(UriInvalid, match="has 33 parameters, at most 32"):
        parse("reds://h/?" + "&".join(["region=us"] * 33))
    with pytest.raises(UriInvalid, match="stands twice"):
        parse("reds://h/?" + "&".join(["region=us"] * 32))
    longest = "reds://h/?region=" + "r" * (8_192 - 17)
    assert parse(longest).region == "r" * 8_175
    with pytest.raises(UriInvalid, match="has 8193 bytes, at most 8192"):
        parse(longest + "r")


@pytest.mark.parametrize("uri", ["reds://u:secret@h", "reds://h?token=secret"])
def test_a_configuration_prints_no_secret(uri: str) -> None:
    assert "secret" not in repr(parse(uri))


@pytest.mark.parametrize(
    "uri",
    ["reds://u:secret@h/x", "reds://u:secret@h:0", "reds://u:secret@", "ftp://u:secret@h", "reds://secret@h"],
)
def test_a_refusal_prints_no_secret(uri: str) -> None:
    with pytest.raises(UriInvalid) as refused:
        parse(uri)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("uri", [None, b"reds://h", 7])
def test_what_is_no_text_is_no_uri(uri: object) -> None:
    with pytest.raises(UriInvalid, match=f"the URI is of type {type(uri).__name__}; pass a str"):
        parse(uri)  # type: ignore[arg-type]
