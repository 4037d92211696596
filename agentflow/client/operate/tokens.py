"""Tokens of the gateway: made, listed, revoked, and followed by who checks them. No master."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import timedelta
from typing import Final

from agentflow.bus.streams import provision
from agentflow.bus.streams.bucket import Board, read_all
from agentflow.client.session import Session, orderer
from agentflow.errors import NoStream, NotFound, UsageError
from agentflow.protocol import subjects, tokens
from agentflow.protocol.tokens import ROLES, Role, Token

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


class Tokens:
    """The tokens of a server. All methods raise BusError."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def create(
        self,
        role: Role,
        *,
        queues: Collection[str] = (),
        ttl: float | None = None,
        name: str = "",
        once: bool = False,
    ) -> tuple[str, Token]:
        """A new token, and what is kept of it; the token itself is nowhere else. `ttl` is seconds.

        Raises UsageError.
        """
        if role not in ROLES:
            raise UsageError(f"role {role[:40]!r} is not one of {', '.join(ROLES)}")
        for queue in queues:
            subjects.check_queue(queue)
        token_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
        text = tokens.compose(token_id, secrets.token_urlsafe(32))
        now = self._session.js.now()
        token = Token(
            id=token_id,
            hash=tokens.digest(text),
            role=role,
            created=now,
            by=orderer(),
            name=name,
            queues=sorted(set(queues)),
            expires=None if ttl is None else now + timedelta(seconds=ttl),
            once=once,
        )
        board, value = Board(self._session.js), tokens.encode(token)
        try:
            await board.change(tokens.key(token.id), lambda _: value)
        except (NotFound, NoStream):
            await provision.ensure_streams(self._session.js)
            await board.change(tokens.key(token.id), lambda _: value)
        return text, token

    async def all(self) -> list[Token]:
        """Those that are kept, expired ones too, the oldest first."""
        found: dict[str, Token] = {}
        try:
            async for key, _, value in read_all(self._session.js):
                if key.startswith(tokens.PREFIX):
                    found.pop(key, None)
                    if (token := tokens.decode(value)) is not None:
                        found[key] = token
        except (NoStream, NotFound):
            return []
        return sorted(found.values(), key=lambda token: token.created)

    async def revoke(self, token_id: str) -> bool:
        """Let a token hold no more; whether it was there."""
        there = False

        def change(value: bytes | None) -> None:
            nonlocal there
            there = value is not None

        await Board(self._session.js).change(tokens.key(token_id), change)
        return there

    def followed(self) -> Followed:
        """A copy that follows what is created and revoked, once it is started."""
        return Followed(Board(self._session.js))


class Followed:
    """The tokens as this process knows them: who asks waits for nothing."""

    def __init__(self, board: Board) -> None:
        self._board = board

    async def start(self) -> None:
        """Read them, and follow them from then on. Raises BusError."""
        await self._board.start()

    async def watch(self) -> None:
        """Forget what is gone with the bucket; runs until cancelled. Raises BusError."""
        await self._board.watch()

    async def close(self) -> None:
        """Follow them no more."""
        await self._board.close()

    def get(self, token_id: str) -> Token | None:
        """A token by its id."""
        return tokens.decode(self._board.get(tokens.key(token_id)))

    def any(self) -> bool:
        """Whether there is one."""
        return any(True for _ in self._board.items(tokens.PREFIX))
