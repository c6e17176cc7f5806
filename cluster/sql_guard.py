"""What a statement may do, step by step, as SQLite asks its authorizer: read collections, and call functions
that are known to be harmless.

The tables are read through the views only. SQLite tells the authorizer the innermost view that a column is
read for, but also the name of a WITH clause in that place, so a statement could call its own
`WITH orders AS (SELECT * FROM docs)` by a view's name. The reading view is therefore another one, with a
random name that no statement can know, under each view that has the collection's name.
"""

from __future__ import annotations

import sqlite3

from cluster.tables import NAMES

_FUNCTION_NAMES = (
    "abs avg char coalesce concat concat_ws count glob group_concat hex ifnull iif instr length "
    "like likelihood likely lower ltrim max min nullif octet_length quote replace round rtrim sign "
    "string_agg substr substring sum total trim typeof unicode unlikely upper "
    "acos asin atan atan2 ceil ceiling cos degrees exp floor ln log log10 log2 mod pi pow power "
    "radians sin sqrt tan trunc "
    "date datetime julianday strftime time timediff unixepoch "
    "json json_array json_array_length json_error_position json_extract json_group_array "
    "json_group_object json_insert json_object json_patch json_quote json_remove json_replace json_set "
    "json_type json_valid -> ->> "
    "cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank "
    "row_number"
)
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
JSON_TABLES = frozenset(("json_each", "json_tree"))
_READ = frozenset(("docs", "collections"))
"""What the reading views are over."""


class Guard:
    """The authorizer of one connection. While `trusting` everything is allowed: for our own statements.

    `secret` is a random name: with it begin those of the reading views, and that of `intact`, the function by
    which they check a row. `views` are the names, in lower case, of the views that statements may read;
    `denied` says what was denied first.
    """

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.intact = f"{secret}_intact"
        self.views: set[str] = set()
        self.trusting = True
        self.denied = ""

    def __call__(
        self, action: int, first: str | None, second: str | None, database: str | None, source: str | None
    ) -> int:
        if self.trusting or action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_READ:
            allowed = self._may_read((first or "").lower(), second or "", database, source or "")
            what = f"there is no collection {first} here; SHOW COLLECTIONS names those that are"
        elif action == sqlite3.SQLITE_FUNCTION:
            allowed = (second or "").lower() in FUNCTIONS or second == self.intact
            what = f"there is no function {second} here"
        else:
            allowed, what = False, "a statement may do nothing but read collections"
        if allowed:
            return sqlite3.SQLITE_OK
        self.denied = self.denied or what
        return sqlite3.SQLITE_DENY

    def _may_read(self, table: str, column: str, database: str | None, source: str) -> bool:
        """Whether `source` (a view or WITH clause, "" for the statement itself) may read the column.

        A table of which no column is used comes with an empty column, and without a database unless one is
        named.
        """
        if source.startswith(self.secret):
            return database == "main" and table in _READ
        if database == "temp":
            return table in self.views or table.startswith(self.secret) and source.lower() in self.views
        if table in JSON_TABLES:
            return True
        reserved = table in NAMES or table.startswith("sqlite_")
        return not column and database is None and (table in self.views or not reserved)
