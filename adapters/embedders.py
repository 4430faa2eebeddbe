"""Embedders: models that run in a thread of their own, and servers that are asked."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import msgspec

from adapters.transport import Request, Transport, TransportError
from proxy.vectors import EmbedderBusy, EmbedderLoading, EmbedderUnavailable

logger = logging.getLogger("lockgate")

State = Literal["ok", "degraded", "down"]
Encode = Callable[[str], Sequence[float]]
"""A loaded model: the vector of a text."""

_OK = 200
_LOADING_AGAIN = 60.0
"""Seconds after which a model that could not be loaded is tried again."""


class ThreadEmbedder:
    """A model in one thread, so that the loop goes on; `load` makes it, and is called in that thread as well.

    It is loaded when the first text comes: until then an instance holds no model. At most `queue` texts wait, and none
    of a caller in a hurry longer than `timeout`; after one that did, nobody waits until the thread has gone on.
    """

    name = "embedder"

    def __init__(  # noqa: PLR0913 - facts of one model, by name
        self,
        load: Callable[[], Encode],
        *,
        id: str,  # noqa: A002 - the word of the seam
        size: int,
        window: int,
        languages: tuple[str, ...],
        queue: int,
        now: Callable[[], float],
        timeout: float = 1.0,
    ) -> None:
        self.id = id
        self.size = size
        self.window = window
        self.languages = languages
        self._timeout = timeout
        self._late = False
        self._load = load
        self._queue = queue
        self._now = now
        self._waiting = 0
        self._thread: ThreadPoolExecutor | None = None
        self._loading: asyncio.Task[Encode] | None = None
        self._encode: Encode | None = None
        self._failed: float | None = None

    async def start(self) -> None:
        """Begin to take texts."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedder")

    async def aclose(self) -> None:
        """End; texts that wait are given up."""
        if self._loading is not None:
            self._loading.cancel()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def state(self) -> State:
        """Degraded while the model cannot be loaded, or takes too long."""
        return "degraded" if self._failed is not None or self._late else "ok"

    async def embed(self, text: str, *, patient: bool = False) -> Sequence[float]:
        """The vector of a text. Raises EmbedderBusy, EmbedderUnavailable."""
        encode = self._encode
        if encode is None:
            loading = self._begin()
            if not patient:
                raise EmbedderLoading("the model is being loaded")
            encode = await asyncio.shield(loading)
        if self._waiting >= self._queue or (self._late and self._waiting and not patient):
            raise EmbedderBusy
        return await self._run(encode, text, None if patient else self._timeout)

    async def _run(self, encode: Encode, text: str, timeout: float | None) -> Sequence[float]:  # noqa: ASYNC109
        if self._thread is None:
            raise EmbedderUnavailable("it is closed")
        self._waiting += 1
        done = asyncio.get_running_loop().run_in_executor(self._thread, encode, text)
        done.add_done_callback(self._left)  # also when nobody waits for it any more
        try:
            await asyncio.wait((done,), timeout=timeout)
        except asyncio.CancelledError:
            done.cancel()
            raise
        if not done.done():  # it still counts as waiting: the thread has it
            if not self._late:
                logger.warning("the embedder %s takes longer than %g s: calls go on without it", self.id, timeout)
            self._late = True
            raise EmbedderBusy
        if done.cancelled():
            raise EmbedderUnavailable("it is closed")
        error = done.exception()  # a model's runtime may raise anything
        if error is not None:
            raise EmbedderUnavailable(f"{type(error).__name__}: {error}") from error
        return done.result()

    def _left(self, done: "asyncio.Future[Sequence[float]]") -> None:
        self._waiting -= 1
        if not done.cancelled() and done.exception() is None:  # seen, should nobody have waited
            self._late = False

    def _begin(self) -> "asyncio.Task[Encode]":
        """The loading, begun if it was not. Raises EmbedderUnavailable when it failed a moment ago."""
        if self._thread is None:
            raise EmbedderUnavailable("it is closed")
        if self._failed is not None:
            if self._now() - self._failed < _LOADING_AGAIN:
                raise EmbedderUnavailable("the model could not be loaded")
            self._loading = None
        if self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._loaded(self._thread))
        return self._loading

    async def _loaded(self, thread: ThreadPoolExecutor) -> Encode:
        loading = asyncio.get_running_loop().run_in_executor(thread, self._load)
        await asyncio.wait((loading,))
        error = loading.exception()  # weights that are damaged may raise anything
        if error is not None:
            self._failed = self._now()
            logger.error("the embedder %s cannot be loaded: %s: %s", self.id, type(error).__name__, error)
            raise EmbedderUnavailable(str(error))
        self._encode = loading.result()
        self._failed = None
        return self._encode


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Vectors(msgspec.Struct):
    data: list[_Vector]


class HttpEmbedder:
    """A server with OpenAI's embeddings route. When it fails it is left alone for `cool_down` seconds, and nobody
    waits for it meanwhile; the first text after that is the trial. `transport` is closed with it.
    """

    name = "embedder"

    def __init__(  # noqa: PLR0913 - facts of one server, by name
        self,
        transport: Transport,
        *,
        base_url: str,
        model: str,
        api_key: str,
        size: int,
        window: int,
        languages: tuple[str, ...],
        queue: int,
        timeout: float,
        cool_down: float,
        now: Callable[[], float],
    ) -> None:
        self.id = f"http/{model}"
        self.size = size
        self.window = window
        self.languages = languages
        self._transport = transport
        self._url = base_url.rstrip("/") + "/embeddings"
        self._model = model
        self._headers = {
            "content-type": "application/json",
            **({"authorization": f"Bearer {api_key}"} if api_key else {}),
        }
        self._queue = queue
        self._timeout = timeout
        self._cool_down = cool_down
        self._now = now
        self._waiting = 0
        self._rests_until = 0.0
        self._trouble = ""
        self._read = msgspec.json.Decoder(_Vectors).decode

    async def start(self) -> None:
        """Nothing is sent before a text comes."""

    async def aclose(self) -> None:
        """Close its connections."""
        await self._transport.aclose()

    def state(self) -> State:
        """Degraded from a failure until it answered again."""
        return "degraded" if self._trouble else "ok"

    async def embed(self, text: str, *, patient: bool = False) -> Sequence[float]:
        """The vector of a text. Raises EmbedderBusy, EmbedderUnavailable."""
        now = self._now()
        if now < self._rests_until:
            raise EmbedderUnavailable(self._trouble)
        if self._waiting >= self._queue:
            raise EmbedderBusy
        if self._trouble:
            self._rests_until = now + self._cool_down  # this one is the trial: others do not wait beside it
        self._waiting += 1
        try:
            vector = await self._ask(text)
        except EmbedderUnavailable as error:
            if not self._trouble:
                logger.warning("the embedder %s is away: %s", self.id, error)
            self._trouble, self._rests_until = str(error), self._now() + self._cool_down
            raise
        finally:
            self._waiting -= 1
        self._trouble, self._rests_until = "", 0.0
        return vector

    async def _ask(self, text: str) -> Sequence[float]:
        body = msgspec.json.encode({"model": self._model, "input": text, "encoding_format": "float"})
        request = Request(self._url, self._headers, body, connect=self._timeout, total=self._timeout)
        try:
            answer = await self._transport.send(request)
        except TransportError as error:
            raise EmbedderUnavailable(str(error)) from None
        if answer.status != _OK:
            raise EmbedderUnavailable(f"status {answer.status}")
        try:
            vector = self._read(answer.body).data[0].embedding
        except (msgspec.DecodeError, IndexError) as error:
            raise EmbedderUnavailable(f"no vector: {error}") from None
        if len(vector) != self.size:
            raise EmbedderUnavailable(f"a vector of length {len(vector)}, not {self.size} as configured")
        norm = math.sqrt(sum(each * each for each in vector))
        if not norm or not math.isfinite(norm):
            raise EmbedderUnavailable("a vector without direction")
        return [each / norm for each in vector]
