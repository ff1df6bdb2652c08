"""What a process that was started anew does with a client; imports little, to start fast."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from servable_client import AsyncClient, Client

if TYPE_CHECKING:
    from servable_client import Classification
    from servable_client.types.images import Picture


def ask(client: Client | AsyncClient, picture: Picture) -> Classification:
    """Classify, then close the client."""
    if isinstance(client, Client):
        with client:
            return client.classify(picture)

    async def answer() -> Classification:
        async with client:
            return await client.classify(picture)

    return asyncio.run(answer())


def close(client: Client | AsyncClient) -> None:
    """Close the client."""
    if isinstance(client, Client):
        client.close()
    else:
        asyncio.run(client.close())
