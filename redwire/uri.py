"""The connection URI: where a cluster is, who we are, and how to read from it.

    reds://user:password@eu-1.example.net:5050,us-1.example.net/?ca=ca.pem&region=us&read=nearest

`reds` is TLS. `red` is plain text, for loopback hosts only. Several hosts are seeds: any of them leads to the
rest. Everything is percent-decoded after it was taken apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from redwire.errors import UriInvalid
from redwire.routing import AnyNode, InRegion, Nearest, Primary, ReadMode
from redwire.spelling import guess

DEFAULT_PORT = 5050
URI_BYTES_MAX = 8 << 10
"""64 hosts of usual length and four paths take half of it."""
PARAMETERS_MAX = 32
"""There are eight; whoever gives four times as many is not read to the end."""
HOSTS_MAX = 64
"""As many as a cluster has members."""
TIMEOUT_MS = 10_000
"""As long as the cluster waits for its copies by default: the server answers within nine tenths of it."""
TIMEOUT_MS_MAX = 24 * 3_600_000
"""A day. The wire has room for 49, and who waits longer than a day waits for ever."""
_PRIMARY = Primary()


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """A parsed URI. Its repr shows neither password nor token.

    `seeds` are "host:port", IPv6 hosts in brackets. `ca`, `cert` and `key` are paths of PEM files; `cert`
    and `key` come together, and so do `user` and `password`, which exclude `token`. `timeout_ms` is the
    deadline of a call that names none.
    """

    seeds: tuple[str, ...]
    tls: bool = True
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    region: str | None = None
    discovery: bool = True
    timeout_ms: int = TIMEOUT_MS
    read: ReadMode = _PRIMARY


PARAMETERS = ("ca", "cert", "key", "region", "discovery", "token", "timeout_ms", "read")
_READ_MODES: dict[str, ReadMode] = {"primary": _PRIMARY, "nearest": Nearest(), "any": AnyNode()}
_IN_REGION = "region:"
_SHAPE = re.compile(
    r"(?P<scheme>[a-z+]+)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)"
    r"(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?\Z",
    re.DOTALL,
)
_PERCENT = "percent-encode what is not a letter or digit: / is %2F, ? is %3F, # is %23"
_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%]{2,64})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::(?P<port>[0-9]*))?\Z"
)
_LOOPBACK_V4 = re.compile(r"127\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\Z")


def parse(uri: str) -> ConnectionConfig:
    """The configuration that `uri` asks for. Raises `UriInvalid`, which never repeats a password or token."""
    if not isinstance(uri, str):
        raise UriInvalid(f"the URI is of type {type(uri).__name__}", hint="pass a str")
    size = len(uri.encode(errors="replace"))
    if size > URI_BYTES_MAX:
        raise UriInvalid(f"the URI has {size} bytes, at most {URI_BYTES_MAX}")
    shape = _SHAPE.match(uri)
    if shape is None or shape["scheme"] not in ("red", "reds"):
        raise UriInvalid("this is no RedWire URI", hint="write reds://host:5050, or red:// on loopback")
    if _cut_off(shape):
        raise UriInvalid("the password, or the user, ends at a /, ? or # before the @", hint=_PERCENT)
    if shape["fragment"] is not None:
        raise UriInvalid("a URI has no #", hint=_PERCENT)
    if shape["path"] not in ("", "/"):
        raise UriInvalid(
            f"a URI has no path, this one has {shape['path'][:64]!r}", hint="end the hosts with /?"
        )
    userinfo, at, hosts = shape["authority"].rpartition("@")
    tls = shape["scheme"] == "reds"
    seeds = _seeds(hosts, tls)
    user, password = _credentials(userinfo) if at else (None, None)
    given = _parameters(shape["query"] or "")
    token = given.get("token")
    _check(given, tls, user)
    return ConnectionConfig(
        seeds=seeds,
        tls=tls,
        user=user,
        password=password,
        token=token,
        ca=given.get("ca"),
        cert=given.get("cert"),
        key=given.get("key"),
        region=given.get("region"),
        discovery=_discovery(given.get("discovery", "on")),
        timeout_ms=_timeout_ms(given["timeout_ms"]) if "timeout_ms" in given else TIMEOUT_MS,
        read=_read(given.get("read", "primary")),
    )


def _cut_off(shape: re.Match[str]) -> bool:
    """Whether what was meant to stand before an @ does not, for something in it that ends it: then none of it
    may be shown.
    """
    query = shape["query"] or ""
    if "@" in shape["path"] or "@" in (shape["fragment"] or ""):
        return True
    if not all(map(_HOST.match, shape["authority"].rpartition("@")[2].split(","))):
        return "@" in query
    odd = (pair for pair in query.split("&") if pair.partition("=")[0] not in PARAMETERS)
    return not shape["path"] and any("@" in pair for pair in odd)


def _seeds(text: str, tls: bool) -> tuple[str, ...]:
    parts = text.split(",")
    if len(parts) > HOSTS_MAX:
        raise UriInvalid(f"the URI names {len(parts)} hosts, at most {HOSTS_MAX}")
    return tuple(dict.fromkeys(_seed(part, tls) for part in parts))


def _seed(text: str, tls: bool) -> str:
    match = _HOST.match(text)
    if match is None:
        raise UriInvalid(f"{text[:64]!r} is no host", hint="write host:port; IPv6 addresses in brackets")
    port = int(match["port"][:6]) if match["port"] else DEFAULT_PORT
    if not 1 <= port <= 65_535:
        raise UriInvalid(f"port {match['port'][:16]} of {text[:64]!r} is not 1 to 65535")
    host = match["name"] or match["v6"]
    if not tls and host not in ("localhost", "::1") and not _LOOPBACK_V4.match(host):
        raise UriInvalid(f"red:// is plain text, and {host!r} is not this machine", hint="write reds://")
    return f"[{host}]:{port}" if match["v6"] else f"{host}:{port}"


def _credentials(userinfo: str) -> tuple[str, str]:
    user, colon, password = userinfo.partition(":")
    if not user or not colon or not password:
        raise UriInvalid("before the @ stands user:password", hint=_PERCENT)
    return _decoded(user, "user"), _decoded(password, "password")


def _parameters(query: str) -> dict[str, str]:
    pairs = [pair for pair in query.split("&") if pair]
    if len(pairs) > PARAMETERS_MAX:
        raise UriInvalid(f"the URI has {len(pairs)} parameters, at most {PARAMETERS_MAX}")
    given: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in PARAMETERS:
            hint = guess(name[:64], PARAMETERS, f"one of {', '.join(PARAMETERS)}")
            raise UriInvalid(f"unknown parameter {name[:64]!r}", hint=hint)
        if name in given:
            raise UriInvalid(f"parameter {name!r} stands twice")
        if not value:
            raise UriInvalid(f"parameter {name!r} has no value")
        given[name] = _decoded(value, name)
    return given


def _check(given: dict[str, str], tls: bool, user: str | None) -> None:
    """Refuse parameters that contradict each other, and files that there cannot be."""
    if ("cert" in given) != ("key" in given):
        raise UriInvalid("a client certificate takes both `cert` and `key`")
    files = given.keys() & {"ca", "cert", "key"}
    if not tls and files:
        raise UriInvalid("certificates mean nothing to red://, which is plain text", hint="write reds://")
    for name in sorted(files):
        if "\0" in given[name]:
            raise UriInvalid(f"parameter {name!r} holds a NUL, which no file's name does")
    if user is not None and "token" in given:
        raise UriInvalid("the URI has both a password and a token", hint="keep one")


def _discovery(text: str) -> bool:
    if text not in ("on", "off"):
        raise UriInvalid(f"discovery is on or off, not {text[:64]!r}")
    return text == "on"


def _timeout_ms(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= TIMEOUT_MS_MAX:
        raise UriInvalid(f"timeout_ms is 1 to {TIMEOUT_MS_MAX}, not {text[:64]!r}")
    return int(text)


def read_mode(text: str) -> ReadMode | None:
    """The mode that `text` names, None for no mode; `read_mode_hint` says then what would be one."""
    if text.startswith(_IN_REGION) and len(text) > len(_IN_REGION):
        return InRegion(text.removeprefix(_IN_REGION))
    return _READ_MODES.get(text)


def read_mode_hint(text: str) -> str:
    """The mode that was meant by `text`, which names none, or all that there are."""
    named = f"{_IN_REGION}<name>"
    every = f"one of {', '.join((*_READ_MODES, named))}"
    kind, colon, _ = text[:64].partition(":")
    return guess(f"{kind}:<name>", (named,), every) if colon else guess(kind, _READ_MODES, every)


def _read(text: str) -> ReadMode:
    mode = read_mode(text)
    if mode is None:
        raise UriInvalid(f"unknown read mode {text[:64]!r}", hint=read_mode_hint(text))
    return mode


def _decoded(text: str, what: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()  # bytes of a command line that are none stand in it as they came
    except UnicodeError as error:
        raise UriInvalid(f"the {what} is not UTF-8 once percent-decoded") from error
    return decoded
