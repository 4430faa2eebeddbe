"""How an embedder says that it has no vector to give."""


class EmbedderBusy(Exception):
    """More texts are waiting than it takes: whoever sees this goes on without a vector."""


class EmbedderUnavailable(Exception):
    """It is not loaded yet, away, slow or broken. The text is for our log."""
