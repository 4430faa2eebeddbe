-- Virtual keys, the accounts that spend, users who log in, and their refresh tokens.
-- Times are Unix seconds, money is nano-USD; JSON members are text.
CREATE TABLE virtual_keys (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    last_four TEXT NOT NULL,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    settings TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT,
    changed BIGINT NOT NULL
);
