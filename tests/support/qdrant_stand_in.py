"""A stand-in for a Qdrant server: the REST routes that are used, over the same engine (`qdrant_edge`), in this process.

Every request and every answer is checked against Qdrant's published OpenAPI (`qdrant_openapi.json`), so a body that a
server would not take fails here as well. It says nothing of a cluster, of ordering, or of a server's speed.
"""

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import qdrant_edge as edge
from aiohttp import web

OPENAPI = json.loads(Path(__file__).with_name("qdrant_openapi.json").read_text())
ROOT = "/collections/{collection_name}"
Json = dict[str, Any]


class QdrantStandIn:
    """What a test can do to it: stop and start it on the same port, make it slow, make it refuse."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")  # a real disk would make its laws wait for others
        self.folder = Path(tempfile.mkdtemp(prefix="qdrant-stand-in-", dir=memory if memory.exists() else None))
        self.collections: dict[str, edge.EdgeShard] = {}
        self.created: dict[str, Json] = {}
        self.indexes: dict[str, Json] = {}
        self.requests: list[str] = []
        self.delay = 0.0
        self.status = 200
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def is_running(self) -> bool:
        return self._runner is not None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(client_max_size=2**26)
        for method, path, handler in (
            ("GET", "", self.info),
            ("PUT", "", self.create),
            ("DELETE", "", self.drop),
            ("GET", "/exists", self.exists),
            ("PUT", "/index", self.index),
            ("PUT", "/points", self.upsert),
            ("POST", "/points", self.retrieve),
            ("POST", "/points/query", self.query),
            ("POST", "/points/delete", self.delete),
            ("POST", "/points/count", self.count),
            ("POST", "/points/payload", self.set_payload),
        ):
            app.router.add_route(method, ROOT + path, self._checked(f"{method} {ROOT}{path}", handler))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def close(self) -> None:
        for shard in self.collections.values():
            shard.close()
        shutil.rmtree(self.folder)

    def _checked(self, name: str, handler: Any) -> Any:
        route = OPENAPI["routes"][name]

        async def handle(request: web.Request) -> web.Response:
            self.requests.append(name)
            await asyncio.sleep(self.delay)
            if self.status != 200:
                return web.json_response({"status": {"error": "told to"}, "time": 0.0}, status=self.status)
            body = json.loads(await request.read() or b"null")
            collection = request.match_info["collection_name"]
            try:
                if route["request"] is not None:
                    check(body, route["request"])
                if handler not in (self.create, self.exists) and collection not in self.collections:
                    return web.json_response({"status": {"error": "Not found"}, "time": 0.0}, status=404)
                answer = {"result": handler(collection, body), "status": "ok", "time": 0.0}
                check(answer, route["response"])
            except (jsonschema.ValidationError, ValueError) as error:
                return web.json_response({"status": {"error": str(error)[:2000]}, "time": 0.0}, status=400)
            return web.json_response(answer)

        return handle

    def exists(self, name: str, _body: Json) -> Json:
        return {"exists": name in self.collections}

    def create(self, name: str, body: Json) -> bool:
        given = body.get("vectors") or {}
        params = edge.EdgeVectorParams(size=given.get("size", 1), distance=edge.Distance.Cosine)
        folder = self.folder / name
        folder.mkdir()
        self.collections[name] = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors=params))
        self.created[name] = given
        self.indexes[name] = {}
        return True

    def drop(self, name: str, _body: Json) -> bool:
        self.collections.pop(name).close()
        shutil.rmtree(self.folder / name)
        return True

    def index(self, name: str, body: Json) -> Json:
        schema = body["field_schema"]
        kind = schema if isinstance(schema, str) else schema["type"]
        kinds = {"keyword": edge.PayloadSchemaType.Keyword, "integer": edge.PayloadSchemaType.Integer}
        self.collections[name].update(edge.UpdateOperation.create_field_index(body["field_name"], kinds[kind]))
        self.indexes[name][body["field_name"]] = {"data_type": kind, "points": 0}
        return {"operation_id": 0, "status": "completed"}

    def info(self, name: str, _body: Json) -> Json:
        return {
            "status": "green",
            "optimizer_status": "ok",
            "points_count": self.collections[name].info().points_count,
            "segments_count": 1,
            "config": {
                "params": {"vectors": self.created[name]},
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
                "optimizer_config": {
                    "deleted_threshold": 0.2,
                    "vacuum_min_vector_number": 1000,
                    "default_segment_number": 0,
                    "flush_interval_sec": 5,
                },
            },
            "payload_schema": self.indexes[name],
        }

    def upsert(self, name: str, body: Json) -> Json:
        points = [edge.Point(each["id"], each["vector"], each["payload"]) for each in body["points"]]
        self.collections[name].update(edge.UpdateOperation.upsert_points(points))
        return {"operation_id": 1, "status": "acknowledged"}

    def retrieve(self, name: str, body: Json) -> list[Json]:
        found = self.collections[name].retrieve(body["ids"], with_payload=True, with_vector=False)
        return [{"id": str(each.id), "payload": each.payload} for each in found]

    def query(self, name: str, body: Json) -> Json:
        found = self.collections[name].query(
            edge.QueryRequest(
                limit=body["limit"],
                query=edge.Query.Nearest(body["query"]),
                filter=filter_of(body["filter"]),
                score_threshold=body["score_threshold"],
                with_payload=body["with_payload"],
            )
        )
        points = [{"id": str(each.id), "version": 0, "score": each.score, "payload": each.payload} for each in found]
        return {"points": points}

    def delete(self, name: str, body: Json) -> Json:
        chosen = filter_of(body["filter"])
        self.collections[name].update(edge.UpdateOperation.delete_points_by_filter(chosen))
        return {"operation_id": 2, "status": "completed"}

    def count(self, name: str, body: Json) -> Json:
        return {"count": self.collections[name].count(edge.CountRequest(True, filter_of(body["filter"])))}

    def set_payload(self, name: str, body: Json) -> Json:
        chosen = filter_of(body["filter"])
        self.collections[name].update(
            edge.UpdateOperation.set_payload_by_filter(chosen, body["payload"], body.get("key"))
        )
        return {"operation_id": 3, "status": "completed"}


def check(value: object, schema: Json) -> None:
    """Raises jsonschema.ValidationError."""
    jsonschema.Draft7Validator({**schema, "components": OPENAPI["components"]}).validate(value)


def filter_of(given: Json) -> edge.Filter:
    """The engine's filter for a REST one, as far as it is used."""
    must: list[Any] = []
    for each in given["must"]:
        if "has_id" in each:
            must.append(edge.HasIdCondition(set(each["has_id"])))
        elif "match" in each:
            must.append(edge.FieldCondition(each["key"], match=edge.MatchValue(each["match"]["value"])))
        else:
            must.append(edge.FieldCondition(each["key"], range=edge.RangeFloat(**each["range"])))
    return edge.Filter(must=must)


@contextlib.asynccontextmanager
async def qdrant_stand_in() -> AsyncIterator[QdrantStandIn]:
    """One that runs, on a port the system chose."""
    server = QdrantStandIn()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        server.close()
