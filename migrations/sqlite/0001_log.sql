-- The event log and what is written in its transactions.
-- Times are microseconds since 1970 (UTC).

-- The stock cqrs-es columns, then ours. The row id is the position: the log is only appended to.
CREATE TABLE events (
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    sequence       integer NOT NULL CHECK (sequence >= 0),
    event_type     text NOT NULL,
    event_version  text NOT NULL,
    payload        text NOT NULL,
    metadata       text NOT NULL,
    position       integer PRIMARY KEY CHECK (position > 0),
    recorded_at    integer NOT NULL,
    UNIQUE (aggregate_type, aggregate_id, sequence)
) STRICT;
CREATE INDEX events_by_actor ON events ((metadata ->> 'actor_id'), position);

-- The end of the log. `epoch` rises when a migration changes a view: nodes of another epoch stop writing.
CREATE TABLE head (
    id          integer PRIMARY KEY CHECK (id = 1),
    position    integer NOT NULL,
    recorded_at integer NOT NULL,
    epoch       integer NOT NULL
) STRICT;
INSERT INTO head VALUES (1, 0, 0, 1);

-- What only one stream may hold: names, addresses, serials.
CREATE TABLE claims (
    kind  text NOT NULL,
    key   text NOT NULL,
    owner text NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;

-- Sealed blobs that events refer to by id; base64.
CREATE TABLE secrets (
    id         text PRIMARY KEY,
    sealed     text NOT NULL,
    expires_at integer
) STRICT;
CREATE INDEX secrets_by_expiry ON secrets (expires_at) WHERE expires_at IS NOT NULL;

-- What requests with an idempotency key were answered, written with what they did. Sealed: the hash
-- of the request and the answer, which may hold a secret that is told once.
CREATE TABLE idempotency_keys (
    caller     text NOT NULL,
    route      text NOT NULL,
    key        text NOT NULL,
    sealed     text NOT NULL,
    expires_at integer NOT NULL,
    PRIMARY KEY (caller, route, key)
) STRICT;
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);

-- The keys of personal values in events, sealed by the master key. Erasing a person empties the row.
CREATE TABLE person_keys (
    person       text PRIMARY KEY,
    sealed       text,
    destroyed_at integer
) STRICT;

-- Tells a wrong master key before it does harm.
CREATE TABLE master_key_check (
    id    integer PRIMARY KEY CHECK (id = 1),
    value text NOT NULL
) STRICT;

-- Which version of each view the tables hold.
CREATE TABLE views (
    name    text PRIMARY KEY,
    version integer NOT NULL
) STRICT;

-- How far each subscription has come.
CREATE TABLE cursors (
    name     text PRIMARY KEY,
    position integer NOT NULL
) STRICT;

-- Who runs the timers and reactors.
CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     text NOT NULL,
    expires_at integer NOT NULL
) STRICT;

-- The newest CRL, signed from the certificates view: derived, so not an event.
CREATE TABLE crl (
    id          integer PRIMARY KEY CHECK (id = 1),
    number      integer NOT NULL,
    position    integer NOT NULL,
    this_update integer NOT NULL,
    next_update integer NOT NULL,
    der         text NOT NULL
) STRICT;

-- Telemetry: what is true now and was never an event.
CREATE TABLE gateway_telemetry (
    gateway_id      text PRIMARY KEY,
    last_heard      integer NOT NULL,
    last_heartbeat  integer,
    active_clients  integer,
    openvpn_running integer,
    config_version  text
) STRICT;
CREATE TABLE credential_telemetry (
    id        text PRIMARY KEY,
    last_used integer NOT NULL,
    last_ip   text
) STRICT;
CREATE INDEX credential_telemetry_by_time ON credential_telemetry (last_used);
