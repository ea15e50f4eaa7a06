"""The tables of an index, and the tallies by which damage to them is noticed.

SQLite keeps no checksums. Here every row of content has one (CRC-32), which is compared when the row is
read. A row that damage has hidden is noticed by its tally: triggers keep, in each transaction, how many
rows there are and the sum of what tells them apart, so that whoever reads all rows of something, or finds
none, can tell whether that is all there was.
"""

from __future__ import annotations

import sqlite3
import zlib
from typing import Any

FORMAT_VERSION = 2
TOKENIZER = "porter unicode61 remove_diacritics 2"

# AUTOINCREMENT: the id of a removed passage is never used again, so a FAISS file that lags behind
# can be caught up by comparing ids. `lexical` is contentless: the text is kept once, in `passages`.
TABLES = f"""
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    checksum INTEGER NOT NULL,
    value TEXT NOT NULL        -- JSON
) WITHOUT ROWID;
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('topic', 'dialogue')),
    origin TEXT NOT NULL,      -- what was given to read it from, relative to the index folder
    hash BLOB NOT NULL,        -- SHA-256 of what was read
    state_checksum INTEGER NOT NULL,  -- of source, kind, hash and origin
    title TEXT NOT NULL,
    metadata TEXT NOT NULL,    -- JSON object
    checksum INTEGER NOT NULL, -- of source, title, metadata and text
    text TEXT NOT NULL
);
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    public_id TEXT NOT NULL UNIQUE,
    start INTEGER NOT NULL,    -- characters (code points) of documents.text
    end INTEGER NOT NULL,
    title TEXT NOT NULL,
    metadata TEXT NOT NULL,    -- JSON object
    context TEXT NOT NULL,
    situation TEXT NOT NULL,
    checksum INTEGER NOT NULL, -- of its id, its document's source and kind, and the rest of the row
    text TEXT NOT NULL
);
CREATE INDEX passages_document ON passages (document, checksum);
CREATE TABLE vectors (
    passage INTEGER PRIMARY KEY REFERENCES passages (id) ON DELETE CASCADE,
    text_hash BLOB NOT NULL,   -- SHA-256 of the text embedded
    checksum INTEGER NOT NULL,
    vector BLOB NOT NULL       -- little-endian float32, unit length
);
CREATE INDEX vectors_text_hash ON vectors (text_hash);
CREATE TABLE tags (            -- kind, source and metadata again, by value, for filters
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    passage INTEGER NOT NULL REFERENCES passages (id) ON DELETE CASCADE,
    PRIMARY KEY (key, value, passage)
) WITHOUT ROWID;
CREATE INDEX tags_passage ON tags (passage);
CREATE VIRTUAL TABLE lexical USING fts5 (
    text, content='', tokenize='{TOKENIZER}'
);
CREATE TABLE tallies (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    rows INTEGER NOT NULL,
    total INTEGER NOT NULL,
    PRIMARY KEY (name, value)
) WITHOUT ROWID;
INSERT INTO tallies VALUES ('passages', '', 0, 0), ('vectors', '', 0, 0);
"""

_ROW_TALLY = """
CREATE TRIGGER {table}_added AFTER INSERT ON {table} BEGIN
    UPDATE tallies SET rows = rows + 1, total = total + new.checksum WHERE name = '{table}';
END;
CREATE TRIGGER {table}_removed AFTER DELETE ON {table} BEGIN
    UPDATE tallies SET rows = rows - 1, total = total - old.checksum WHERE name = '{table}';
END;
"""
_TALLY_BY_VALUE = """
CREATE TRIGGER documents_added AFTER INSERT ON documents BEGIN
    INSERT INTO tallies VALUES ('document', new.source, 1, 0);
END;
CREATE TRIGGER documents_removed AFTER DELETE ON documents BEGIN
    DELETE FROM tallies WHERE name = 'document' AND value = old.source;
END;
CREATE TRIGGER tags_added AFTER INSERT ON tags BEGIN
    INSERT INTO tallies VALUES ('tag ' || new.key, new.value, 1, new.passage)
    ON CONFLICT DO UPDATE SET rows = rows + 1, total = total + excluded.total;
END;
CREATE TRIGGER tags_removed AFTER DELETE ON tags BEGIN
    UPDATE tallies SET rows = rows - 1, total = total - old.passage
    WHERE name = 'tag ' || old.key AND value = old.value;
    DELETE FROM tallies WHERE name = 'tag ' || old.key AND value = old.value AND rows = 0;
END;
"""


def create_tables(connection: sqlite3.Connection) -> None:
    """Create everything, as part of a transaction."""
    for statement in TABLES.split(";\n"):
        connection.execute(statement)
    triggers = _TALLY_BY_VALUE + "".join(_ROW_TALLY.format(table=name) for name in ("passages", "vectors"))
    for statement in triggers.split("END;\n")[:-1]:
        connection.execute(f"{statement}END")


def seal(connection: sqlite3.Connection) -> None:
    """Take down what the lexical table is, as the last part of a transaction.

    It is read in full for that: 0.1 s for 100,000 passages.
    """
    connection.execute("SAVEPOINT written")  # makes FTS5 write what it still holds in memory
    connection.execute("RELEASE written")
    held = lexical_total(connection)
    connection.execute("INSERT OR REPLACE INTO tallies VALUES ('lexical', '', ?, ?)", held)


def lexical_total(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return how many passages the lexical table holds, and the CRC-32 of all that FTS5 keeps of them.

    (Triggers on the tables of FTS5 would have less to read, but crash SQLite 3.40.)
    """
    sizes = """SELECT count(*), coalesce(group_concat(id || ':' || hex(sz)), '')
        FROM (SELECT id, sz FROM lexical_docsize ORDER BY id)"""
    rows, text = connection.execute(sizes).fetchone()
    total = zlib.crc32(text.encode())
    for query in (
        "SELECT id, block FROM lexical_data ORDER BY id",
        "SELECT segid || ' ' || pgno, term FROM lexical_idx ORDER BY segid, term",
        "SELECT k, v FROM lexical_config ORDER BY k",
    ):
        for row in connection.execute(query):
            total = crc(total, *row)
    return rows, total


def crc(*values: Any) -> int:
    """Return the CRC-32 of a row's values."""
    result = 0
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode()
        result = zlib.crc32(data, zlib.crc32(b"%d" % len(data), result))
    return result


def schema_digest(connection: sqlite3.Connection) -> int:
    """Return the CRC-32 of the statements that made the tables, as SQLite has kept them."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")
    return crc(*(value for row in rows for value in row))
