"""Small things that the gateway keeps by name, in its database: what was changed while it ran."""

from __future__ import annotations

from gateway.state.database import Connection, database_errors, transaction


class Kept:
    """Bytes by name. It blocks: the gateway calls it in a thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> bytes | None:
        """What is kept; None if nothing is."""
        with database_errors(self._connection.path):
            row = self._connection.execute("SELECT body FROM kept WHERE name = ?", (name,)).fetchone()
            return None if row is None else bytes(row[0])

    def put(self, name: str, body: bytes) -> None:
        """Keep this in place of what was."""
        with transaction(self._connection) as connection:
            connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, body))
