"""How an embedder says that it has no vector to give."""


class EmbedderBusy(Exception):
    """More texts are waiting than it takes: whoever sees this goes on without a vector."""


class EmbedderUnavailable(Exception):
    """It is away, slow or broken, or not loaded yet. The text is for our log."""


class EmbedderLoading(EmbedderUnavailable):
    """Its model is being loaded, which takes a second or so."""
