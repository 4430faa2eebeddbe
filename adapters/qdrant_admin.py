"""Administration of a Qdrant server by its own client: collections and their indexes.

Imported by name and only where a server is configured: the client takes a second to load. The calls of the hot path
are in `qdrant_server.py`, at a tenth of the CPU.
"""

from qdrant_client import AsyncQdrantClient
from qdrant_client.http.exceptions import ApiException
from qdrant_client.models import (
    Distance,
    IntegerIndexParams,
    IntegerIndexType,
    KeywordIndexParams,
    KeywordIndexType,
    VectorParams,
)

from proxy.entries import StoreUnavailable

_TIMEOUT = 5
_INDEXES: dict[str, KeywordIndexParams | IntegerIndexParams] = {
    "partition": KeywordIndexParams(type=KeywordIndexType.KEYWORD, is_tenant=True),
    "fingerprint": KeywordIndexParams(type=KeywordIndexType.KEYWORD),
    "route": KeywordIndexParams(type=KeywordIndexType.KEYWORD),
    "created": IntegerIndexParams(type=IntegerIndexType.INTEGER),
    "expires_at": IntegerIndexParams(type=IntegerIndexType.INTEGER),
}


class QdrantAdmin:
    """Makes and drops collections on one server."""

    def __init__(self, url: str, api_key: str) -> None:
        self._client = AsyncQdrantClient(
            url=url, port=None, api_key=api_key or None, timeout=_TIMEOUT, check_compatibility=False
        )

    async def ensure(self, name: str, dims: int) -> None:
        """Make the collection and its indexes where they are missing.

        Raises StoreUnavailable, and OSError when it is there for vectors of another length.
        """
        try:
            if not await self._client.collection_exists(name):
                params = VectorParams(size=dims, distance=Distance.COSINE)
                await self._client.create_collection(name, vectors_config=params if dims else {})
            info = await self._client.get_collection(name)
            for field, schema in _INDEXES.items():
                if field not in info.payload_schema:
                    await self._client.create_payload_index(name, field, schema, wait=True)
        except ApiException as error:
            raise StoreUnavailable(f"its administration failed: {error!s:.200}") from error
        vectors = info.config.params.vectors
        found = vectors.size if isinstance(vectors, VectorParams) else 0
        if found != dims:
            raise OSError(
                f"the collection {name} holds vectors of length {found}, and the embedder's have {dims}: "
                f"`lockgate cache migrate {name}` drops it and starts anew"
            )

    async def drop(self, name: str) -> bool:
        """Drop the collection with everything in it; whether there was one. Raises StoreUnavailable."""
        try:
            return await self._client.collection_exists(name) and await self._client.delete_collection(name)
        except ApiException as error:
            raise StoreUnavailable(f"its administration failed: {error!s:.200}") from error

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.close()
