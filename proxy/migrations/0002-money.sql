-- What budgets have spent and reserved, the leases of calls in flight, the ledger, and its sums by day.
-- Times are Unix seconds, money is nano-USD; a lease's record is JSON.
CREATE TABLE accounts (
    account TEXT NOT NULL,
    period TEXT NOT NULL,
    began BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    PRIMARY KEY (account, period, began)
);
CREATE TABLE leases (
    call_id TEXT PRIMARY KEY,
    expires BIGINT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX leases_by_expiry ON leases (expires);
CREATE TABLE ledger (
    call_id TEXT PRIMARY KEY,
    started BIGINT NOT NULL,
    day TEXT NOT NULL,
    caller TEXT NOT NULL,
    owner TEXT NOT NULL,
    route TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    status INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    prompt BIGINT NOT NULL,
    completion BIGINT NOT NULL,
    cached BIGINT NOT NULL,
    cache_write BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    audio BIGINT NOT NULL,
    estimated INTEGER NOT NULL,
    cost BIGINT,
    saved BIGINT
);
CREATE INDEX ledger_by_time ON ledger (started);
CREATE TABLE usage_days (
    day TEXT NOT NULL,
    caller TEXT NOT NULL,
    owner TEXT NOT NULL,
    route TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    calls BIGINT NOT NULL,
    prompt BIGINT NOT NULL,
    completion BIGINT NOT NULL,
    cached BIGINT NOT NULL,
    cost BIGINT NOT NULL,
    saved BIGINT NOT NULL,
    estimated BIGINT NOT NULL,
    unpriced BIGINT NOT NULL,
    PRIMARY KEY (day, caller, owner, route, provider, model)
);
