-- The event log and what is written in its transactions.
-- Times are microseconds since 1970 (UTC).

-- The stock cqrs-es columns, then ours. JSON, not JSONB: the stored bytes are what was signed.
CREATE TABLE events (
    aggregate_type text   NOT NULL,
    aggregate_id   text   NOT NULL,
    sequence       bigint NOT NULL CHECK (sequence >= 0),
    event_type     text   NOT NULL,
    event_version  text   NOT NULL,
    payload        json   NOT NULL,
    metadata       json   NOT NULL,
    position       bigint NOT NULL CHECK (position > 0),
    recorded_at    bigint NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id, sequence),
    UNIQUE (position)
);
CREATE INDEX events_by_actor ON events ((metadata ->> 'actor_id'), position);

-- The end of the log. `epoch` rises when a migration changes a view: nodes of another epoch stop writing.
CREATE TABLE head (
    id          bigint PRIMARY KEY CHECK (id = 1),
    position    bigint NOT NULL,
    recorded_at bigint NOT NULL,
    epoch       bigint NOT NULL
);
INSERT INTO head VALUES (1, 0, 0, 1);

-- What only one stream may hold: names, addresses, serials.
CREATE TABLE claims (
    kind  text NOT NULL,
    key   text NOT NULL,
    owner text NOT NULL,
    PRIMARY KEY (kind, key)
);

-- Sealed blobs that events refer to by id; base64.
CREATE TABLE secrets (
    id         text PRIMARY KEY,
    sealed     text NOT NULL,
    expires_at bigint
);
CREATE INDEX secrets_by_expiry ON secrets (expires_at) WHERE expires_at IS NOT NULL;

-- What requests with an idempotency key were answered, written with what they did. Sealed: the hash
-- of the request and the answer, which may hold a secret that is told once.
CREATE TABLE idempotency_keys (
    caller     text NOT NULL,
    route      text NOT NULL,
    key        text NOT NULL,
    sealed     text NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (caller, route, key)
);
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

-- The keys of personal values in events, sealed by the master key. Erasing a person empties the row.
CREATE TABLE person_keys (
    person       text PRIMARY KEY,
    sealed       text,
    destroyed_at bigint
);

-- Tells a wrong master key before it does harm.
CREATE TABLE master_key_check (
    id    bigint PRIMARY KEY CHECK (id = 1),
    value text NOT NULL
);

-- Which version of each view the tables hold.
CREATE TABLE views (
    name    text PRIMARY KEY,
    version bigint NOT NULL
);

-- How far each subscription has come.
CREATE TABLE cursors (
    name     text PRIMARY KEY,
    position bigint NOT NULL
);

-- Who runs the timers and reactors.
CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    expires_at bigint NOT NULL
);

-- The newest CRL, signed from the certificates view: derived, so not an event.
CREATE TABLE crl (
    id          bigint PRIMARY KEY CHECK (id = 1),
    number      bigint NOT NULL,
    position    bigint NOT NULL,
    this_update bigint NOT NULL,
    next_update bigint NOT NULL,
    der         text   NOT NULL
);

-- Telemetry: what is true now and was never an event.
CREATE TABLE gateway_telemetry (
    gateway_id      text PRIMARY KEY,
    last_heard      bigint NOT NULL,
    last_heartbeat  bigint,
    active_clients  bigint,
    openvpn_running boolean,
    config_version  text
);
CREATE TABLE credential_telemetry (
    id        text PRIMARY KEY,
    last_used bigint NOT NULL,
    last_ip   text
);
CREATE INDEX credential_telemetry_by_time ON credential_telemetry (last_used);
