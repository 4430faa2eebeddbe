-- Virtual keys, owners and their budgets, users who log in, families of refresh tokens, and the log of changes.
-- Times are Unix seconds, money is nano-USD, settings are JSON. Secrets are never here: keys and refresh tokens are
-- SHA-256 digests in hex, passwords argon2id.
CREATE TABLE virtual_keys (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    last_four TEXT NOT NULL,
    owner TEXT NOT NULL,
    settings TEXT NOT NULL,
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    revoked BIGINT
);
CREATE INDEX virtual_keys_by_owner ON virtual_keys (owner);
CREATE TABLE owners (
    name TEXT PRIMARY KEY,
    budget BIGINT NOT NULL,
    period TEXT NOT NULL,
    changed BIGINT NOT NULL
);
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL,
    settings TEXT NOT NULL,
    created BIGINT NOT NULL,
    changed BIGINT NOT NULL
);
-- A family is one login and every refresh token that grew out of it.
CREATE TABLE token_families (
    id TEXT PRIMARY KEY,
    user_name TEXT NOT NULL,
    stamp TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    revoked BIGINT
);
CREATE INDEX token_families_by_revoked ON token_families (revoked);
CREATE TABLE refresh_tokens (
    digest TEXT PRIMARY KEY,
    family TEXT NOT NULL REFERENCES token_families (id) ON DELETE CASCADE,
    expires BIGINT NOT NULL,
    used BIGINT
);
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family);
CREATE TABLE login_tries (
    bucket TEXT PRIMARY KEY,
    began BIGINT NOT NULL,
    tries BIGINT NOT NULL
);
-- Every change takes the next version in its own transaction: the row lock keeps them in order of commit, so that an
-- instance that has read up to a version has missed nothing before it.
CREATE TABLE identity_version (
    id BIGINT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO identity_version (id, value) VALUES (1, 0);
CREATE TABLE identity_changes (
    version BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    at BIGINT NOT NULL
);
