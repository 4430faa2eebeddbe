"""`lockgate cache calibrate`: from which similarity on answers may be served, measured for an embedder."""

from policies.calibration import Pairs, as_yaml, measure, shipped
from policies.embedder import EmbedderConfig, MiniLMEmbedder, UseEmbedder
from policies.pair_guard.compare import PairGuard
from policies.pair_guard.tables import Tables
from proxy.config import Config
from proxy.semantic import make_embedder
from proxy.vectors import EmbedderBusy, EmbedderUnavailable

_BY_NAME: dict[str, EmbedderConfig] = {"use": UseEmbedder(), "minilm": MiniLMEmbedder()}


async def calibrate(config: Config, name: str | None) -> int:
    """Print the calibration of the embedder of this name, or of the configured one. Raises OSError when it is away."""
    configured = config.semantic_cache.embedder if config.semantic_cache is not None else UseEmbedder()
    embedder = make_embedder(configured if name is None else _BY_NAME[name], config.transport.ca_file)
    await embedder.start()
    try:
        guard = PairGuard(Tables.load(), "any")
        found, pairs = await measure(
            lambda text: embedder.embed(text, patient=True), guard, embedder.languages, Pairs.load()
        )
    except (EmbedderBusy, EmbedderUnavailable) as error:
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
    return 0
