"""The user of the management API and his tokens in the database."""

from __future__ import annotations

import sqlite3

from mtls_ambassador.lab.server.database import Database
from mtls_ambassador.lab.server.records import User, UserToken

_SELECT = "SELECT id, user_id, name, issued, expires, last_used FROM user_tokens"


class UseradmStore:
    """Reads and writes of useradm; no rules here."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add_user(self, user: User) -> User:
        """The user of that e-mail address, added if there is none."""
        self._db.run("INSERT OR IGNORE INTO users VALUES (?, ?, ?, ?)", user.id, user.email, user.created, user.login)
        return User(*self._db.rows("SELECT id, email, created, login FROM users WHERE email = ?", user.email)[0])

    def user(self, user_id: str) -> User | None:
        """The user of that id."""
        rows = self._db.rows("SELECT id, email, created, login FROM users WHERE id = ?", user_id)
        return User(*rows[0]) if rows else None

    def set_login(self, user_id: str, now: str) -> None:
        """Write when a user last logged in."""
        self._db.run("UPDATE users SET login = ? WHERE id = ?", now, user_id)

    def add_token(self, token: UserToken) -> bool:
        """Add a session or personal access token; False if the user has one of that name."""
        try:
            self._db.run(
                "INSERT INTO user_tokens (id, user_id, name, issued, expires, last_used) VALUES (?, ?, ?, ?, ?, ?)",
                token.id,
                token.user_id,
                token.name,
                token.issued,
                token.expires,
                token.last_used,
            )
        except sqlite3.IntegrityError:
            return False
        return True

    def token(self, token_id: str) -> UserToken | None:
        """The token of that id."""
        rows = self._db.rows(f"{_SELECT} WHERE id = ?", token_id)
        return UserToken(*rows[0]) if rows else None

    def personal_tokens(self, user_id: str) -> list[UserToken]:
        """A user's personal access tokens, oldest first."""
        query = f"{_SELECT} WHERE user_id = ? AND name IS NOT NULL ORDER BY sequence"
        return [UserToken(*row) for row in self._db.rows(query, user_id)]

    def keep_newest_sessions(self, user_id: str, limit: int) -> None:
        """Delete a user's sessions but the newest `limit`."""
        self._db.run(
            "DELETE FROM user_tokens WHERE user_id = ? AND name IS NULL AND sequence NOT IN (SELECT sequence FROM"
            " user_tokens WHERE user_id = ? AND name IS NULL ORDER BY sequence DESC LIMIT ?)",
            user_id,
            user_id,
            limit,
        )

    def set_last_used(self, token_id: str, now: float) -> None:
        """Write when a token was last used."""
        self._db.run("UPDATE user_tokens SET last_used = ? WHERE id = ?", now, token_id)

    def delete_token(self, user_id: str, token_id: str) -> None:
        """Delete a token of a user, if it is there."""
        self._db.run("DELETE FROM user_tokens WHERE user_id = ? AND id = ?", user_id, token_id)

    def delete_sessions(self, user_id: str) -> None:
        """Delete all sessions of a user."""
        self.keep_newest_sessions(user_id, 0)

    def delete_tokens(self, user_id: str) -> None:
        """Delete all sessions and personal access tokens of a user."""
        self._db.run("DELETE FROM user_tokens WHERE user_id = ?", user_id)
