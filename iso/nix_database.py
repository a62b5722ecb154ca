"""Nix's database of a store, written anew so that it depends on nothing but the paths that are in it.

Nix numbers paths in the order in which it happened to copy them and notes the time at which it did (nix, schema.sql); two
copies of one store differ in both.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from installer.errors import Exit, HyperError

REGISTERED = 1
"""Seconds since 1970: the time that Nix gives to every file of a store, too."""
KNOWN = {"ValidPaths", "Refs", "DerivationOutputs", "SchemaMigrations", "sqlite_sequence"}
"""Tables of the schema that may have rows."""


def write_anew(database: Path) -> int:
    """Replace the database; the number of its paths.

    Raises:
        HyperError: it has tables that are not known here (Exit.step), or SQLite cannot read it.
    """
    fresh = database.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(database)) as old,
            closing(sqlite3.connect(fresh, isolation_level=None)) as new,
        ):
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            many = _copy(old, new)
    except sqlite3.Error as error:
        raise HyperError(
            f"Nix's database {database} cannot be written anew",
            why=str(error),
            remedy="this Nix may be newer than this program: say so to its makers, with `nix --version`",
            code=Exit.step,
        ) from error
    for end in ("", "-wal", "-shm"):
        database.with_name(database.name + end).unlink(missing_ok=True)
    fresh.rename(database)
    return many


def _copy(old: sqlite3.Connection, new: sqlite3.Connection) -> int:
    schema = old.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type = 'table' DESC, name"
    ).fetchall()
    for kind, name, _ in schema:
        quoted = '"' + name.replace('"', '""') + '"'
        if kind == "table" and name not in KNOWN:
            rows = old.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]  # noqa: S608 (its own name, quoted)
            if rows:
                raise HyperError(
                    f"Nix's database has a table {name} that is not known here",
                    why="its rows would be left out",
                    remedy="this Nix may be newer than this program: say so to its makers, with `nix --version`",
                    code=Exit.step,
                )
    new.execute("PRAGMA journal_mode = DELETE")
    new.execute("BEGIN")
    tables = [sql for kind, name, sql in schema if kind == "table" and not name.startswith("sqlite_")]
    for sql in tables:
        new.execute(sql)
    columns = [row[1] for row in old.execute("PRAGMA table_info(ValidPaths)")]
    kept = [name for name in columns if name not in ("id", "registrationTime")]
    rows = old.execute(f"SELECT id, {', '.join(kept)} FROM ValidPaths ORDER BY path").fetchall()  # noqa: S608
    numbers = {row[0]: number for number, row in enumerate(rows, start=1)}
    slots = ", ".join("?" for _ in range(len(kept) + 2))
    new.executemany(
        f"INSERT INTO ValidPaths (id, registrationTime, {', '.join(kept)}) VALUES ({slots})",  # noqa: S608
        [(numbers[row[0]], REGISTERED, *row[1:]) for row in rows],
    )
    references = sorted(
        (numbers[a], numbers[b]) for a, b in old.execute("SELECT referrer, reference FROM Refs")
    )
    new.executemany("INSERT INTO Refs (referrer, reference) VALUES (?, ?)", references)
    for table in ("DerivationOutputs", "SchemaMigrations"):
        if any(name == table for kind, name, _ in schema if kind == "table"):
            for row in sorted(old.execute(f"SELECT * FROM {table}")):  # noqa: S608
                values = (numbers[row[0]], *row[1:]) if table == "DerivationOutputs" else row
                new.execute(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in row)})", values)  # noqa: S608
    for kind, _, sql in schema:
        if kind != "table":
            new.execute(sql)
    new.execute("COMMIT")
    return len(rows)
