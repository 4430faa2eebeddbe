"""Embedders: models that run in a thread of their own, and servers that are asked."""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from adapters.model_server import ModelServer, State
from proxy.model_errors import ModelBusy, ModelLoading, ModelUnavailable

logger = logging.getLogger("lockgate")

Encode = Callable[[str], Sequence[float]]
"""A loaded model: the vector of a text."""

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
        """The vector of a text. Raises ModelBusy, ModelUnavailable."""
        encode = self._encode
        if encode is None:
            loading = self._begin()
            if not patient:
                raise ModelLoading("the model is being loaded")
            encode = await asyncio.shield(loading)
        if self._waiting >= self._queue or (self._late and self._waiting and not patient):
            raise ModelBusy
        return await self._run(encode, text, None if patient else self._timeout)

    async def _run(self, encode: Encode, text: str, timeout: float | None) -> Sequence[float]:  # noqa: ASYNC109
        if self._thread is None:
            raise ModelUnavailable("it is closed")
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
            raise ModelBusy
        if done.cancelled():
            raise ModelUnavailable("it is closed")
        error = done.exception()  # a model's runtime may raise anything
        if error is not None:
            raise ModelUnavailable(f"{type(error).__name__}: {error}") from error
        return done.result()

    def _left(self, done: "asyncio.Future[Sequence[float]]") -> None:
        self._waiting -= 1
        if not done.cancelled() and done.exception() is None:  # seen, should nobody have waited
            self._late = False

    def _begin(self) -> "asyncio.Task[Encode]":
        """The loading, begun if it was not. Raises ModelUnavailable when it failed a moment ago."""
        if self._thread is None:
            raise ModelUnavailable("it is closed")
        if self._failed is not None:
            if self._now() - self._failed < _LOADING_AGAIN:
                raise ModelUnavailable("the model could not be loaded")
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
            raise ModelUnavailable(str(error))
        self._encode = loading.result()
        self._failed = None
        return self._encode


class _Vector(msgspec.Struct):
    embedding: list[float]


class _Vectors(msgspec.Struct):
    data: list[_Vector]


_read = msgspec.json.Decoder(_Vectors).decode


class HttpEmbedder:
    """A server with OpenAI's embeddings route, which gets `prefix` before each text. `server` is closed with it."""

    name = "embedder"

    def __init__(  # noqa: PLR0913 - facts of one model, by name
        self, server: ModelServer, *, model: str, size: int, window: int, languages: tuple[str, ...], prefix: str = ""
    ) -> None:
        self.id = f"http/{model}" if not prefix else f"http/{model} {prefix.strip()}"
        self.size = size
        self.window = window
        self.languages = languages
        self._server = server
        self._model = model
        self._prefix = prefix

    async def start(self) -> None:
        """Nothing is sent before a text comes."""

    async def aclose(self) -> None:
        """Close its connections."""
        await self._server.aclose()

    def state(self) -> State:
        """Degraded from a failure until it answered again."""
        return self._server.state()

    async def embed(self, text: str, *, patient: bool = False) -> Sequence[float]:
        """The vector of a text. Raises ModelBusy, ModelUnavailable."""
        body = msgspec.json.encode({"model": self._model, "input": self._prefix + text, "encoding_format": "float"})
        return await self._server.ask(body, self._vector_in)

    def _vector_in(self, answer: bytes) -> Sequence[float]:
        try:
            vector = _read(answer).data[0].embedding
        except (msgspec.DecodeError, IndexError, RecursionError) as error:
            raise ModelUnavailable(f"no vector: {error}") from None
        if len(vector) != self.size:
            raise ModelUnavailable(f"a vector of length {len(vector)}, not {self.size} as configured")
        norm = math.sqrt(sum(each * each for each in vector))
        if not norm or not math.isfinite(norm):
            raise ModelUnavailable("a vector without direction")
        return [each / norm for each in vector]
