"""What the semantic cache is made of: its models, once an instance, and the policy, once a configuration."""

import importlib
import time
from collections.abc import Callable
from random import Random
from typing import Protocol, cast

from adapters.embedder_models import MINILM, USE
from adapters.embedders import Encode, HttpEmbedder, ThreadEmbedder
from adapters.model_server import ModelServer
from adapters.network import tls_context
from adapters.reranker import HttpReranker
from adapters.transport_aiohttp import AiohttpTransport
from policies.calibration import shipped
from policies.embedder import Embedder, EmbedderConfig, MiniLMEmbedder
from policies.embedder import HttpEmbedder as HttpEmbedderConfig
from policies.pair_guard.compare import PairGuard
from policies.pair_guard.tables import Tables
from policies.reranker import RerankerConfig
from policies.semantic_cache import GuardsDigest, SemanticCache
from policies.semantic_check import CheckHits
from policies.semantic_judge import AskModel
from policies.semantic_kept import SemanticKept
from policies.semantic_settings import SemanticCacheConfig
from policies.semantic_text import Eligibility, Words
from proxy.chain import Handler
from proxy.deployments import Route
from proxy.runtime import Service
from proxy.version import VERSION


class RunningEmbedder(Embedder, Service, Protocol):
    """An embedder as a service of the instance."""


def make_embedder(config: EmbedderConfig, ca_file: str | None) -> RunningEmbedder:
    """The embedder that is configured. A model's module is looked up by name, when its first text comes."""
    if isinstance(config, HttpEmbedderConfig):
        server = _server(config, f"the embedder {config.model}", "/embeddings", ca_file)
        return HttpEmbedder(
            server, model=config.model, size=config.size, window=config.window, languages=config.languages, prefix=config.prefix
        )  # fmt: skip
    model = MINILM if isinstance(config, MiniLMEmbedder) else USE
    return ThreadEmbedder(
        lambda: cast("Encode", importlib.import_module(model.module).load()),
        id=model.id,
        size=model.size,
        window=model.window,
        languages=model.languages,
        queue=config.queue,
        now=time.monotonic,
    )


def make_reranker(config: RerankerConfig, ca_file: str | None) -> HttpReranker:
    """The reranker that is configured."""
    return HttpReranker(_server(config, "the reranker", "/rerank", ca_file), config.threshold)


def _server(config: HttpEmbedderConfig | RerankerConfig, name: str, path: str, ca_file: str | None) -> ModelServer:
    return ModelServer(
        AiohttpTransport(tls_context(ca_file), agent=f"lockgate/{VERSION}"),
        name=name,
        url=config.base_url.rstrip("/") + path,
        api_key=config.api_key.reveal() if config.api_key is not None else "",
        queue=config.queue,
        timeout=config.timeout,
        cool_down=config.cool_down,
        now=time.monotonic,
    )


def make_semantic_cache(
    config: SemanticCacheConfig,
    kept: SemanticKept,
    *,
    upstream: Handler,
    find_route: Callable[[str], Route],
    guards: GuardsDigest,
) -> SemanticCache:
    """The policy. `upstream` is asked when a hit is checked: it stands behind budgets and limits."""
    check = config.check
    checker = None
    if check.share:
        random = Random().random  # noqa: S311 - which hits are checked is no secret
        judge = AskModel(upstream, find_route, check.judge) if check.judge else None
        checker = CheckHits(kept, upstream, share=check.share, most_wrong=check.most_wrong, random=random, judge=judge)
    return SemanticCache(
        config,
        kept,
        judge=PairGuard(Tables.load(), config.language, kept.embedder.languages),
        eligibility=Eligibility(Words.load(), kept.embedder.window),
        checker=checker,
        calibration=config.calibration or shipped(kept.embedder.id),
        guards=guards,
        now=time.time,
    )
