-- The views: rows folded from events by the projections crate, in the transaction that appends them.
-- Lists are JSON text. What was deleted keeps its row, so that history can name it.
-- `revision` and `etag` are the sequence and the position of the last event that changed a field an admin can write.

CREATE TABLE gateways (
    id                 text    PRIMARY KEY,
    name               text    NOT NULL,
    description        text    NOT NULL,
    hostname           text    NOT NULL,
    public_ip          text,
    port               bigint  NOT NULL,
    protocol           text    NOT NULL,
    vpn_subnet         text    NOT NULL,
    crypto_profile     text    NOT NULL,
    tls_auth           boolean NOT NULL,
    full_tunnel        boolean NOT NULL,
    push_dns           boolean NOT NULL,
    dns_servers        text    NOT NULL,
    active             boolean NOT NULL,
    online             boolean NOT NULL,
    reported_ip        text,
    token_hash         text    NOT NULL,
    tls_auth_key       text    NOT NULL,
    server_certificate text,
    reprovisions       bigint  NOT NULL,
    created_at         bigint  NOT NULL,
    updated_at         bigint  NOT NULL,
    deleted_at         bigint,
    revision           bigint  NOT NULL,
    etag               bigint  NOT NULL,
    number             bigint  NOT NULL
);
CREATE INDEX gateways_by_token ON gateways (token_hash);
CREATE INDEX gateways_by_name ON gateways (lower(name), id) WHERE deleted_at IS NULL;
CREATE INDEX gateways_by_age ON gateways (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX gateways_by_standing ON gateways (active, lower(name), id) WHERE deleted_at IS NULL;

CREATE TABLE gateway_users (
    gateway_id text   NOT NULL,
    user_id    text   NOT NULL,
    granted_at bigint NOT NULL,
    PRIMARY KEY (gateway_id, user_id)
);
CREATE INDEX gateway_users_by_user ON gateway_users (user_id);

CREATE TABLE gateway_groups (
    gateway_id text   NOT NULL,
    group_name text   NOT NULL,
    granted_at bigint NOT NULL,
    PRIMARY KEY (gateway_id, group_name)
);
CREATE INDEX gateway_groups_by_group ON gateway_groups (group_name);

CREATE TABLE gateway_networks (
    gateway_id text   NOT NULL,
    network_id text   NOT NULL,
    granted_at bigint NOT NULL,
    PRIMARY KEY (gateway_id, network_id)
);
CREATE INDEX gateway_networks_by_network ON gateway_networks (network_id);

CREATE TABLE mesh_hubs (
    id                 text    PRIMARY KEY,
    name               text    NOT NULL,
    description        text    NOT NULL,
    public_endpoint    text    NOT NULL,
    port               bigint  NOT NULL,
    protocol           text    NOT NULL,
    vpn_subnet         text    NOT NULL,
    crypto_profile     text    NOT NULL,
    tls_auth           boolean NOT NULL,
    local_networks     text    NOT NULL,
    tls_auth_key       text    NOT NULL,
    server_certificate text,
    created_at         bigint  NOT NULL,
    updated_at         bigint  NOT NULL,
    deleted_at         bigint,
    revision           bigint  NOT NULL,
    etag               bigint  NOT NULL
);
CREATE INDEX mesh_hubs_by_name ON mesh_hubs (name, id);
CREATE INDEX mesh_hubs_by_age ON mesh_hubs (created_at, id);

CREATE TABLE mesh_hub_users (
    hub_id     text   NOT NULL,
    user_id    text   NOT NULL,
    granted_at bigint NOT NULL,
    PRIMARY KEY (hub_id, user_id)
);
CREATE INDEX mesh_hub_users_by_user ON mesh_hub_users (user_id);

CREATE TABLE mesh_hub_groups (
    hub_id     text   NOT NULL,
    group_name text   NOT NULL,
    granted_at bigint NOT NULL,
    PRIMARY KEY (hub_id, group_name)
);
CREATE INDEX mesh_hub_groups_by_group ON mesh_hub_groups (group_name);

CREATE TABLE mesh_hub_networks (
    hub_id     text   NOT NULL,
    network_id text   NOT NULL,
    granted_at bigint NOT NULL,
    PRIMARY KEY (hub_id, network_id)
);
CREATE INDEX mesh_hub_networks_by_network ON mesh_hub_networks (network_id);

-- `revision` counts how often an admin wrote the spoke.
CREATE TABLE mesh_spokes (
    hub_id         text   NOT NULL,
    id             text   NOT NULL,
    name           text   NOT NULL,
    description    text   NOT NULL,
    local_networks text   NOT NULL,
    certificate    text,
    created_at     bigint NOT NULL,
    updated_at     bigint NOT NULL,
    deleted_at     bigint,
    revision       bigint NOT NULL,
    etag           bigint NOT NULL,
    PRIMARY KEY (hub_id, id)
);
CREATE INDEX mesh_spokes_by_id ON mesh_spokes (id);
CREATE INDEX mesh_spokes_by_name ON mesh_spokes (hub_id, name, id);

-- `signed_out` is the position of the last event that ended all logins of the person.
CREATE TABLE users (
    id                   text    PRIMARY KEY,
    username             text,
    email                text,
    name                 text,
    role                 text    NOT NULL,
    active               boolean NOT NULL,
    password             text,
    must_change_password boolean NOT NULL,
    last_login_at        bigint,
    signed_out           bigint  NOT NULL,
    created_at           bigint  NOT NULL,
    updated_at           bigint  NOT NULL,
    deleted_at           bigint,
    revision             bigint  NOT NULL,
    etag                 bigint  NOT NULL,
    number               bigint  NOT NULL
);
CREATE INDEX users_by_username ON users (username, id) WHERE deleted_at IS NULL;
CREATE INDEX users_by_email ON users (email, id) WHERE deleted_at IS NULL;
CREATE INDEX users_by_age ON users (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX users_by_role ON users (role, username, id) WHERE deleted_at IS NULL;
CREATE INDEX users_by_standing ON users (active, username, id) WHERE deleted_at IS NULL;

CREATE TABLE user_groups (
    user_id    text NOT NULL,
    group_name text NOT NULL,
    PRIMARY KEY (user_id, group_name)
);
CREATE INDEX user_groups_by_group ON user_groups (group_name, user_id);

CREATE TABLE api_keys (
    id           text   PRIMARY KEY,
    user_id      text   NOT NULL,
    name         text   NOT NULL,
    prefix       text   NOT NULL,
    key_hash     text   NOT NULL,
    scopes       text   NOT NULL,
    expires_at   bigint,
    source_cidrs text   NOT NULL,
    created_by   text,
    created_at   bigint NOT NULL,
    revoked_at   bigint
);
CREATE INDEX api_keys_by_hash ON api_keys (key_hash);
CREATE INDEX api_keys_by_user ON api_keys (user_id, created_at, id);

CREATE TABLE networks (
    id          text   PRIMARY KEY,
    name        text   NOT NULL,
    cidr        text   NOT NULL,
    description text   NOT NULL,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL,
    deleted_at  bigint,
    revision    bigint NOT NULL,
    etag        bigint NOT NULL
);
CREATE INDEX networks_by_name ON networks (lower(name), id) WHERE deleted_at IS NULL;
CREATE INDEX networks_by_age ON networks (created_at, id) WHERE deleted_at IS NULL;

CREATE TABLE access_rules (
    id          text    PRIMARY KEY,
    name        text    NOT NULL,
    description text    NOT NULL,
    target_type text    NOT NULL,
    value       text    NOT NULL,
    port_range  text,
    protocol    text,
    network_id  text,
    active      boolean NOT NULL,
    created_at  bigint  NOT NULL,
    updated_at  bigint  NOT NULL,
    deleted_at  bigint,
    revision    bigint  NOT NULL,
    etag        bigint  NOT NULL
);
CREATE INDEX access_rules_by_name ON access_rules (lower(name), id) WHERE deleted_at IS NULL;
CREATE INDEX access_rules_by_age ON access_rules (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX access_rules_by_network ON access_rules (network_id);

CREATE TABLE access_rule_users (
    access_rule_id text   NOT NULL,
    user_id        text   NOT NULL,
    granted_at     bigint NOT NULL,
    PRIMARY KEY (access_rule_id, user_id)
);
CREATE INDEX access_rule_users_by_user ON access_rule_users (user_id);

CREATE TABLE access_rule_groups (
    access_rule_id text   NOT NULL,
    group_name     text   NOT NULL,
    granted_at     bigint NOT NULL,
    PRIMARY KEY (access_rule_id, group_name)
);
CREATE INDEX access_rule_groups_by_group ON access_rule_groups (group_name);

CREATE TABLE geo_fences (
    id         text    PRIMARY KEY,
    enabled    boolean NOT NULL,
    mode       text    NOT NULL,
    created_at bigint  NOT NULL,
    updated_at bigint  NOT NULL,
    revision   bigint  NOT NULL,
    etag       bigint  NOT NULL
);

CREATE TABLE geo_fence_rules (
    id           text   PRIMARY KEY,
    name         text   NOT NULL,
    cidr         text   NOT NULL,
    description  text   NOT NULL,
    global_since bigint,
    created_at   bigint NOT NULL,
    updated_at   bigint NOT NULL,
    deleted_at   bigint,
    revision     bigint NOT NULL,
    etag         bigint NOT NULL
);
CREATE INDEX geo_fence_rules_by_name ON geo_fence_rules (name, id);
CREATE INDEX geo_fence_rules_global ON geo_fence_rules (name, id) WHERE global_since IS NOT NULL;

CREATE TABLE geo_fence_rule_users (
    geo_fence_rule_id text   NOT NULL,
    user_id           text   NOT NULL,
    granted_at        bigint NOT NULL,
    PRIMARY KEY (geo_fence_rule_id, user_id)
);
CREATE INDEX geo_fence_rule_users_by_user ON geo_fence_rule_users (user_id);

CREATE TABLE geo_fence_rule_groups (
    geo_fence_rule_id text   NOT NULL,
    group_name        text   NOT NULL,
    granted_at        bigint NOT NULL,
    PRIMARY KEY (geo_fence_rule_id, group_name)
);
CREATE INDEX geo_fence_rule_groups_by_group ON geo_fence_rule_groups (group_name);

CREATE TABLE certificates (
    id          text   PRIMARY KEY,
    kind        text   NOT NULL,
    serial      text   NOT NULL,
    user_id     text,
    gateway_id  text,
    hub_id      text,
    spoke_id    text,
    common_name text,
    token_hash  text,
    bundle      text,
    fingerprint text   NOT NULL,
    not_before  bigint NOT NULL,
    not_after   bigint NOT NULL,
    issued_at   bigint NOT NULL,
    revoked_at  bigint,
    reason      text
);
CREATE INDEX certificates_by_serial ON certificates (serial);
CREATE INDEX certificates_by_token ON certificates (token_hash) WHERE token_hash IS NOT NULL;
CREATE INDEX certificates_by_age ON certificates (kind, issued_at, id);
CREATE INDEX certificates_by_user ON certificates (user_id, issued_at, id) WHERE user_id IS NOT NULL;
CREATE INDEX certificates_by_gateway ON certificates (gateway_id, issued_at, id);
CREATE INDEX certificates_by_hub ON certificates (hub_id, issued_at, id) WHERE hub_id IS NOT NULL;
CREATE INDEX certificates_by_expiry ON certificates (not_after);
CREATE INDEX certificates_revoked ON certificates (not_after) WHERE revoked_at IS NOT NULL;

-- `position` is where the connection began in the log, `version` the sequence of its last event.
CREATE TABLE connections (
    id               text   PRIMARY KEY,
    gateway_id       text   NOT NULL,
    user_id          text   NOT NULL,
    certificate_id   text   NOT NULL,
    serial           text   NOT NULL,
    common_name      text,
    client_ip        text,
    vpn_ip           text,
    vpn_ipv6         text,
    connected_at     bigint NOT NULL,
    disconnected_at  bigint,
    end_reason       text,
    duration_seconds bigint,
    bytes_received   bigint,
    bytes_sent       bigint,
    position         bigint NOT NULL,
    version          bigint NOT NULL
);
CREATE INDEX connections_by_age ON connections (connected_at, id);
CREATE INDEX connections_by_user ON connections (user_id, connected_at, id);
CREATE INDEX connections_by_gateway ON connections (gateway_id, connected_at, id);
CREATE INDEX connections_open ON connections (connected_at, id) WHERE disconnected_at IS NULL;
CREATE INDEX connections_lost ON connections (disconnected_at) WHERE end_reason = 'gateway_lost';

-- `position` is where the login began in the log.
CREATE TABLE logins (
    id         text   PRIMARY KEY,
    user_id    text   NOT NULL,
    method     text   NOT NULL,
    token_hash text   NOT NULL,
    client_ip  text,
    user_agent text,
    began_at   bigint NOT NULL,
    expires_at bigint NOT NULL,
    ended_at   bigint,
    end_reason text,
    position   bigint NOT NULL
);
CREATE INDEX logins_by_token ON logins (token_hash);
CREATE INDEX logins_by_user ON logins (user_id, began_at, id);
CREATE INDEX logins_live ON logins (expires_at) WHERE ended_at IS NULL;

-- `id` is where the failure stands in the log.
CREATE TABLE login_failures (
    id         text   PRIMARY KEY,
    user_id    text   NOT NULL,
    reason     text   NOT NULL,
    client_ip  text,
    user_agent text,
    count      bigint NOT NULL,
    failed_at  bigint NOT NULL
);
CREATE INDEX login_failures_by_user ON login_failures (user_id, failed_at, id);

CREATE TABLE authorities (
    id          text   PRIMARY KEY,
    certificate text   NOT NULL,
    fingerprint text   NOT NULL,
    not_after   bigint NOT NULL,
    key         text   NOT NULL,
    created_at  bigint NOT NULL
);

CREATE TABLE settings (
    id         text   PRIMARY KEY,
    document   text   NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    revision   bigint NOT NULL,
    etag       bigint NOT NULL
);

-- How many there are of each thing, but for those that were deleted.
CREATE TABLE totals (
    name  text   PRIMARY KEY,
    count bigint NOT NULL
);

-- The audit's filter by kind.
CREATE INDEX events_by_type ON events (aggregate_type, position);

-- Sequences of three characters, for `q` (projections/src/search.rs). Where the extension is not to be had,
-- `q` is right but slow.
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX users_search ON users USING gin
        (lower(COALESCE(username, '') || chr(10) || COALESCE(email, '') || chr(10) || COALESCE(name, '')) gin_trgm_ops);
    CREATE INDEX gateways_search ON gateways USING gin
        (lower(name || chr(10) || description || chr(10) || hostname) gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
    RAISE WARNING 'without the extension pg_trgm searching among many users or gateways is slow: %', SQLERRM;
END
$$;
