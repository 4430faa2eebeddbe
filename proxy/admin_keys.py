"""`/admin/keys`, `/admin/owners`, `/admin/users`: who may call, for administrators only."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, patch, post, put
from litestar.params import FromPath, FromQuery
from litestar.types import ControllerRouterHandler, Guard

from proxy.audit import audit
from proxy.call import Budget
from proxy.errors import BadRequest
from proxy.grants import Grants, nano, usd, user_name
from proxy.key_store import KeyStore, VirtualKey
from proxy.passwords import Passwords
from proxy.user_store import OwnerStore, User, UserStore, owner_budget

Json = dict[str, Any]
AnyRequest = Request[Any, Any, Any]

_LARGEST = 64 * 1024
_MOST = 1000
_encoder = msgspec.json.Encoder(decimal_format="number")


class Stores(msgspec.Struct, frozen=True):
    """Where they are kept; `look` makes a change hold here at once."""

    keys: KeyStore
    users: UserStore
    owners: OwnerStore
    passwords: Passwords
    look: Callable[[], Awaitable[None]]


def describe_key(key: VirtualKey) -> Json:
    """A key as administrators see it; never its secret, never its digest."""
    return {
        "id": key.id,
        "last_four": key.last_four,
        **msgspec.structs.asdict(key.grants),
        "created": key.created,
        "changed": key.changed,
        "revoked": key.revoked,
    }


def describe_user(user: User) -> Json:
    """A user as administrators see it; never the password's hash."""
    return {**msgspec.structs.asdict(user.grants), "name": user.name, "created": user.created, "changed": user.changed}


def describe_owner(name: str, budget: Budget) -> Json:
    """An owner's budget in USD."""
    return {"name": name, "budget": usd(budget.amount), "period": budget.period}


def owner_budget_of(name: str, members: Json) -> Budget:
    """What the body of a request, or the command line, says of an owner. Raises BadRequest."""
    unknown = members.keys() - {"budget", "period", "name"}
    if unknown:
        raise BadRequest(f"Unknown parameter: '{min(unknown)[:100]}'.", param=min(unknown)[:100])
    try:
        terms = msgspec.convert({key: each for key, each in members.items() if key != "name"}, Grants)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid budget: {error}.", param="budget", code="invalid_type") from None
    if terms.budget is None:
        raise BadRequest("Missing required parameter: 'budget'.", param="budget", code="missing_required_parameter")
    return owner_budget(name, nano(terms.budget), terms.period)


def identity_handlers(stores: Stores, guard: Guard) -> list[ControllerRouterHandler]:
    """All of them behind `guard`, which is `admins_only`."""
    return [*_key_handlers(stores, [guard]), *_user_handlers(stores, [guard]), *_owner_handlers(stores, [guard])]


def _key_handlers(stores: Stores, guards: list[Guard]) -> list[ControllerRouterHandler]:
    @post("/admin/keys", guards=guards, request_max_body_size=_LARGEST)
    async def create(request: AnyRequest) -> Response[bytes]:
        """A new key. `key` in the answer is its secret, shown this once."""
        members = await _members(request)
        key, secret = await stores.keys.create(members)
        await stores.look()
        _audit(request, "create key", key.id, members)
        return _json({"key": secret, **describe_key(key)}, 201)

    @get("/admin/keys", guards=guards)
    async def list_all(
        owner: FromQuery[str | None] = None,
        after: FromQuery[str] = "",
        limit: FromQuery[int] = _MOST,
        revoked: FromQuery[bool] = False,
    ) -> Response[bytes]:
        """Keys in order of id; `after` is the last id of the page before."""
        keys = await stores.keys.list(owner=owner, after=after, limit=limit, revoked=revoked)
        return _json({"keys": [describe_key(key) for key in keys]})

    @get("/admin/keys/{key_id:str}", guards=guards)
    async def one(key_id: FromPath[str]) -> Response[bytes]:
        """One key, revoked ones too."""
        return _json(describe_key(await stores.keys.get(key_id)))

    @patch("/admin/keys/{key_id:str}", guards=guards, request_max_body_size=_LARGEST)
    async def update(request: AnyRequest, key_id: FromPath[str]) -> Response[bytes]:
        """Change some members."""
        members = await _members(request)
        key = await stores.keys.update(key_id, members)
        await stores.look()
        _audit(request, "update key", key.id, members)
        return _json(describe_key(key))

    @delete("/admin/keys/{key_id:str}", guards=guards, status_code=200)
    async def revoke(request: AnyRequest, key_id: FromPath[str]) -> Response[bytes]:
        """End a key for good."""
        key = await stores.keys.revoke(key_id)
        await stores.look()
        _audit(request, "revoke key", key.id)
        return _json({"id": key.id, "deleted": True})

    return [create, list_all, one, update, revoke]


def _user_handlers(stores: Stores, guards: list[Guard]) -> list[ControllerRouterHandler]:
    @post("/admin/users", guards=guards, request_max_body_size=_LARGEST)
    async def add(request: AnyRequest) -> Response[bytes]:
        """A new user, with `name` and `password`."""
        members = await _members(request)
        name = user_name(members.pop("name", None))
        password_hash = await stores.passwords.hash(_password(members.pop("password", None)))
        user = await stores.users.add(name, password_hash, members)
        await stores.look()
        _audit(request, "add user", name, members)
        return _json(describe_user(user), 201)

    @get("/admin/users", guards=guards)
    async def list_all() -> Response[bytes]:
        """Users of the database; those of the configuration stand there."""
        return _json({"users": [describe_user(user) for user in await stores.users.list()]})

    @patch("/admin/users/{name:str}", guards=guards, request_max_body_size=_LARGEST)
    async def update(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        """Change some members; a new `password` ends every login of this user."""
        members = await _members(request)
        password = members.pop("password", None)
        password_hash = None if password is None else await stores.passwords.hash(_password(password))
        user = await stores.users.update(name, members, password_hash)
        await stores.look()
        _audit(request, "update user", name, members if password is None else {**members, "password": ""})
        return _json(describe_user(user))

    @delete("/admin/users/{name:str}", guards=guards, status_code=200)
    async def remove(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        """Remove a user; its logins end."""
        await stores.users.remove(name)
        await stores.look()
        _audit(request, "remove user", name)
        return _json({"name": name, "deleted": True})

    return [add, list_all, update, remove]


def _owner_handlers(stores: Stores, guards: list[Guard]) -> list[ControllerRouterHandler]:
    @get("/admin/owners", guards=guards)
    async def list_all() -> Response[bytes]:
        """Owners with a budget."""
        owners = await stores.owners.list()
        return _json({"owners": [describe_owner(name, budget) for name, budget in owners.items()]})

    @put("/admin/owners/{name:path}", guards=guards, request_max_body_size=_LARGEST)
    async def set_one(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        """What this owner's keys and users may spend together."""
        owner = name.strip("/")
        members = await _members(request)
        budget = owner_budget_of(owner, members)
        await stores.owners.set(owner, budget)
        await stores.look()
        _audit(request, "set owner", owner, members)
        return _json(describe_owner(owner, budget))

    @delete("/admin/owners/{name:path}", guards=guards, status_code=200)
    async def remove(request: AnyRequest, name: FromPath[str]) -> Response[bytes]:
        """Take an owner's budget away."""
        owner = name.strip("/")
        await stores.owners.remove(owner)
        await stores.look()
        _audit(request, "remove owner", owner)
        return _json({"name": owner, "deleted": True})

    return [list_all, set_one, remove]


async def _members(request: AnyRequest) -> Json:
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("The body must be a JSON object.", code="invalid_json") from None


def _password(value: object) -> str:
    if not isinstance(value, str):
        raise BadRequest("Missing required parameter: 'password'.", param="password", code="missing_required_parameter")
    return value


def _audit(request: AnyRequest, action: str, subject: str, members: Json | None = None) -> None:
    state = request.state
    audit(state.caller.id, action, subject, peer=state.client, members=tuple(sorted(members or {})))


def _json(content: Json, status: int = 200) -> Response[bytes]:
    return Response(_encoder.encode(content), status_code=status, media_type="application/json")
