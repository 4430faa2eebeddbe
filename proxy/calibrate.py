"""`lockgate cache calibrate`: from which similarity, and which score, on answers may be served."""

from policies.calibration import Pairs, as_yaml, measure, rank, shipped
from policies.embedder import EmbedderConfig, MiniLMEmbedder, UseEmbedder
from policies.pair_guard.compare import PairGuard
from policies.pair_guard.tables import Tables
from policies.reranker import RerankerConfig
from proxy.config import Config
from proxy.model_errors import ModelBusy, ModelUnavailable
from proxy.semantic import make_embedder, make_reranker

_BY_NAME: dict[str, EmbedderConfig] = {"use": UseEmbedder(), "minilm": MiniLMEmbedder()}


async def calibrate(config: Config, name: str | None) -> int:
    """Print the calibration of the embedder of this name; or of the configured one, and of the reranker beside it.

    Raises OSError when one of them is away.
    """
    settings, ca_file = config.semantic_cache, config.transport.ca_file
    configured = settings.embedder if settings is not None else UseEmbedder()
    await _calibrate_embedder(configured if name is None else _BY_NAME[name], ca_file)
    reranker = settings.reranker if name is None and settings is not None else None
    if reranker is not None and reranker.base_url:
        await _calibrate_reranker(reranker, ca_file)
    return 0


async def _calibrate_embedder(config: EmbedderConfig, ca_file: str | None) -> None:
    embedder = make_embedder(config, ca_file)
    await embedder.start()
    try:
        guard = PairGuard(Tables.load(), "any")
        found, pairs = await measure(
            lambda text: embedder.embed(text, patient=True), guard, embedder.languages, Pairs.load()
        )
    except (ModelBusy, ModelUnavailable) as error:
        raise OSError(f"the embedder {embedder.id} gives no vectors: {error}") from None
    finally:
        await embedder.aclose()
    known = shipped(embedder.id)
    print(f"# {embedder.id}, from {pairs} pairs; for semantic_cache in the configuration")
    print(as_yaml(found))
    print(
        f"# shipped: {as_yaml(known)}"
        if known is not None
        else "# none is shipped: without this line the cache only looks"
    )


async def _calibrate_reranker(config: RerankerConfig, ca_file: str | None) -> None:
    reranker = make_reranker(config, ca_file)
    try:
        found = await rank(reranker, Pairs.load())
    except (ModelBusy, ModelUnavailable) as error:
        raise OSError(f"the reranker gives no scores: {error}") from None
    finally:
        await reranker.aclose()
    print(f"# the reranker: {found.reached} of {found.count} paraphrases score more than every other question")
    print(
        f"# reranker: {{threshold: {found.threshold:g}}}" if found.threshold <= 1 else "# and so it is of no use here"
    )
