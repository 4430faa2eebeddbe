"""How a model that works for the caches says that it has nothing to give."""


class ModelBusy(Exception):
    """More is waiting than it takes: whoever sees this goes on without."""


class ModelUnavailable(Exception):
    """It is away, slow or broken, or not loaded yet. The text is for our log."""


class ModelLoading(ModelUnavailable):
    """It is being loaded, which takes a second or so."""
