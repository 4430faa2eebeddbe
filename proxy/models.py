"""`GET /v1/models` and `/v1/models/{id}`: the routes that this caller may use, answered without any provider."""

import msgspec

from proxy.call import Call
from proxy.errors import UnknownModel
from proxy.reply import Reply
from proxy.router import Router


class ModelList:
    """Answers for the model list and for one model. `created` is the Unix time that every route is given."""

    def __init__(self, router: Router, created: int) -> None:
        self._router = router
        self._created = created

    async def __call__(self, call: Call, /) -> Reply:
        """The list, or the one model that the path names. Raises UnknownModel."""
        if call.path_model is not None:
            if not call.caller.may_use(call.path_model):
                raise UnknownModel(call.path_model)
            self._router.find(call.path_model)
            return Reply.whole(msgspec.json.encode(self._model(call.path_model)))
        names = [name for name in self._router.exact if call.caller.may_use(name)]
        return Reply.whole(msgspec.json.encode({"object": "list", "data": [self._model(name) for name in names]}))

    def _model(self, name: str) -> dict[str, object]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "lockgate"}
