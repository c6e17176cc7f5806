"""Users and tokens: what a change makes of them, and what is said when there is nothing to change."""

from __future__ import annotations

import pytest

from cluster.accounts import MEANT_MAX, Accounts
from redwire.errors import Code, Refused
from redwire.message.admin import (
    ACCOUNTS_PAGE_MAX,
    AccountChange,
    PutToken,
    PutUser,
    RemoveToken,
    RemoveUser,
    ScramRecord,
    SetRole,
    TokenRow,
    TokensAsked,
    TokensPage,
    UserRow,
    UsersAsked,
    UsersPage,
)

VERIFIER = ScramRecord(
    salt=bytes(16), iterations=16_384, stored_key=b"stored" + bytes(26), server_key=bytes(32)
)
ADMINS = ("ops",)


def user(name: str, role: str = "read") -> PutUser:
    return PutUser(name=name, role=role, verifier=VERIFIER, topology_read=False)  # type: ignore[arg-type]


def token(ident: str, name: str) -> PutToken:
    return PutToken(id=ident, user=name, role="read", sha256=b"hash" + bytes(28))


def after(*changes: AccountChange) -> Accounts:
    accounts = Accounts()
    for change in changes:
        accounts = accounts.after(change)
    return accounts


SOME = after(user("ann"), user("bob", "write"), token("t1", "ann"), token("t2", "bob"), token("t3", "bob"))


def test_there_is_nobody_at_first() -> None:
    assert Accounts().users == {} and Accounts().tokens == {}
    assert Accounts().page(UsersAsked(), (), 0) == UsersPage(0, False, (), ())
    assert Accounts().page(TokensAsked(), (), 0) == TokensPage(0, False, ())


def test_a_user_goes_with_all_its_tokens_and_others_stay() -> None:
    gone = SOME.after(RemoveUser("bob"))
    assert (gone.users, gone.tokens) == ({"ann": user("ann")}, {"t1": token("t1", "ann")})
    assert SOME.after(RemoveToken("t2")).tokens.keys() == {"t1", "t3"}


def test_a_user_who_is_replaced_keeps_its_tokens() -> None:
    replaced = SOME.after(user("bob", "admin"))
    assert replaced.users["bob"].role == "admin" and replaced.tokens == SOME.tokens


@pytest.mark.parametrize(("sees", "saw"), [(None, False), (True, True), (False, False)])
def test_another_role_leaves_password_and_tokens(sees: bool | None, saw: bool) -> None:
    raised = SOME.after(SetRole(name="bob", role="admin", topology_read=sees))
    assert raised.users == {
        "ann": user("ann"),
        "bob": PutUser(name="bob", role="admin", verifier=VERIFIER, topology_read=saw),
    }
    assert raised.tokens == SOME.tokens


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (RemoveUser("bobb"), "there is no user bobb; did you mean bob?"),
        (SetRole(name="bobb", role="read", topology_read=None), "there is no user bobb; did you mean bob?"),
        (RemoveUser("somebody"), "there is no user somebody"),
        (
            RemoveUser("ops"),
            "there is no user ops: ops is an administrator by configuration (cluster.admins)",
        ),
        (
            token("t9", "ops"),
            "there is no user ops: ops is an administrator by configuration (cluster.admins)",
        ),
        (token("t9", "an"), "there is no user an; did you mean ann?"),
        (RemoveToken("t4"), "there is no token t4; did you mean t1?"),
        (RemoveToken("bob"), "there is no token bob"),
    ],
)
def test_a_change_with_nothing_to_change_changes_nothing_and_says_what_is_missing(
    change: AccountChange, said: str
) -> None:
    assert SOME.after(change) is SOME
    assert SOME.missing(change, ADMINS) == said


def test_a_user_may_have_the_name_of_an_administrator() -> None:
    both = SOME.after(user("ops"))
    assert "ops" not in both.after(RemoveUser("ops")).users


def test_a_guess_looks_at_a_bounded_number_of_names() -> None:
    crowd = Accounts({f"u{number:05}": user("x") for number in range(MEANT_MAX)} | {"wanted": user("wanted")})
    assert crowd.missing(RemoveUser("wantde"), ()) == "there is no user wantde"
    few = Accounts({"a-long-name-of-no-interest" * 2: user("x"), "wanted": user("wanted")})
    assert few.missing(RemoveUser("wantde"), ()).endswith("did you mean wanted?")


def test_a_page_holds_names_roles_and_counts_and_nothing_secret() -> None:
    page = SOME.page(UsersAsked(), ("root", "ops"), 7)
    rows = (UserRow("ann", "read", False, 1), UserRow("bob", "write", False, 2))
    assert page == UsersPage(7, False, ("ops", "root"), rows)
    tokens = SOME.page(TokensAsked("bob"), ADMINS, 7)
    assert tokens == TokensPage(7, False, (TokenRow("t2", "bob", "read"), TokenRow("t3", "bob", "read")))
    for data in (page.encode(), tokens.encode()):
        assert b"stored" not in data and b"hash" not in data


def test_pages_follow_each_other_without_a_gap() -> None:
    crowd = after(*(user(f"u{number}") for number in range(25)), *(token(f"t{n}", "u1") for n in range(25)))
    seen: list[str] = []
    more = True
    while more:
        page = crowd.page(UsersAsked(seen[-1] if seen else "", 10), (), 1)
        assert isinstance(page, UsersPage)
        seen += [row.name for row in page.users]
        more = page.more
    assert seen == sorted(crowd.users)
    last = crowd.page(TokensAsked("u1", "t8", 10), (), 1)
    assert isinstance(last, TokensPage) and [row.id for row in last.tokens] == ["t9"] and not last.more


def test_the_largest_page_fits_into_a_body() -> None:
    names = [f"{number:064}" for number in range(ACCOUNTS_PAGE_MAX)]
    crowd = Accounts(
        {name: user(name, "write") for name in names}, {name: token(name, name) for name in names}
    )
    for asked, kind in ((UsersAsked(), UsersPage), (TokensAsked(), TokensPage)):
        page = crowd.page(asked, [f"{number:064}" for number in range(64)], 1)
        assert kind.decode(page.encode()) == page


def test_tokens_of_a_user_who_is_not_there_are_refused() -> None:
    with pytest.raises(Refused, match="there is no user bo; did you mean bob") as refused:
        SOME.page(TokensAsked("bo"), ADMINS, 1)
    assert refused.value.code is Code.NOT_FOUND
