//! `gateways`: OpenVPN servers, who may use them, and what can be reached through them.

use super::kind::{Current, Kind, List, Of};
use super::plan::{Made, PlanError, Planner, Token};
use super::world::World;
use crate::access::{LoadError, gateway_configuration};
use crate::api::FieldError;
use crate::api::admin::gateways::{GatewayRequest, TOKEN_PREFIX, first_free};
use crate::entropy::token_hash;
use crate::openvpn::TlsAuthKey;
use crate::secrets::Secret;
use gatekey_aggregates::gateway::{Command, Configuration, Gateway};
use gatekey_aggregates::values::{GatewayId, VpnSubnet, canonical_ip};

/// Gateways.
pub struct Gateways;

impl Kind for Gateways {
    type Root = Gateway;
    type Body = GatewayRequest;
    type Definition = Configuration;

    const SECTION: &'static str = "gateways";
    const ONE: &'static str = "gateway";

    fn current(world: &World) -> Result<Vec<Current<Self>>, LoadError> {
        let now = &world.now;
        let mut networks =
            world.networks(now.gateway_networks.iter().map(|it| (&it.gateway_id, &it.network_id)));
        let mut users =
            world.users(now.gateway_users.iter().map(|it| (&it.gateway_id, &it.user_id)));
        let mut groups =
            world.groups(now.gateway_groups.iter().map(|it| (&it.gateway_id, &it.group_name)));
        let gateways = now.gateways.iter().map(|row| {
            Ok(Current {
                id: row.id.clone(),
                revision: Some(row.revision),
                definition: canonical(gateway_configuration(row)?),
                lists: vec![networks.take(&row.id), users.take(&row.id), groups.take(&row.id)],
                secret: Some(LoadError::read("gateways", &row.id, &row.tls_auth_key)?),
            })
        });
        gateways.collect()
    }

    fn name(configuration: &Configuration) -> &str {
        configuration.name.as_str()
    }

    fn state(configuration: &Configuration) -> Gateway {
        Gateway { configuration: Some(configuration.clone()), ..Gateway::default() }
    }

    fn lists() -> Vec<List<Gateway>> {
        vec![
            List {
                name: "networks",
                of: Of::Networks(Command::AttachNetwork, Command::DetachNetwork),
            },
            List { name: "users", of: Of::Users(Command::GrantUser, Command::RevokeUser) },
            List { name: "groups", of: Of::Groups(Command::GrantGroup, Command::RevokeGroup) },
        ]
    }

    fn define(
        body: GatewayRequest,
        before: Option<&Configuration>,
        planner: &mut Planner<'_>,
    ) -> Result<Configuration, FieldError> {
        let subnet = subnet(body.vpn_subnet, before.map(|it| it.vpn_subnet), planner)?;
        Ok(body.configuration(subnet))
    }

    fn create(
        configuration: &Configuration,
        planner: &Planner<'_>,
    ) -> Result<Made<Gateway>, PlanError> {
        let entropy = planner.means.entropy;
        let id: GatewayId = entropy.id()?;
        let token = Secret::from(entropy.token(TOKEN_PREFIX)?);
        let key = TlsAuthKey::generate(entropy)?;
        let key = planner.means.vault.seal(key.as_str().as_bytes(), None)?;
        let command = Command::Register {
            configuration: configuration.clone(),
            token_hash: token_hash(token.expose()),
            tls_auth_key: key.id.clone(),
        };
        let id = id.to_string();
        let token = Token { id: id.clone(), name: configuration.name.to_string(), token };
        Ok(Made { id, command, secret: Some(key), token: Some(token) })
    }

    fn configure(configuration: &Configuration) -> Command {
        Command::Configure(configuration.clone())
    }

    fn delete() -> Option<Command> {
        Some(Command::Delete)
    }
}

/// As it would be if it were written now.
fn canonical(mut it: Configuration) -> Configuration {
    it.public_ip = it.public_ip.map(canonical_ip);
    it.dns_servers.iter_mut().for_each(|ip| *ip = canonical_ip(*ip));
    it
}

/// The subnet that is named, else the one that it has, else the first that is free.
pub(super) fn subnet(
    named: Option<VpnSubnet>,
    before: Option<VpnSubnet>,
    planner: &mut Planner<'_>,
) -> Result<VpnSubnet, FieldError> {
    if let Some(subnet) = named.or(before) {
        return Ok(subnet);
    }
    let (subnet, _) = first_free(&planner.subnets, 0).ok_or_else(|| FieldError {
        field: "vpn_subnet".to_owned(),
        message: "must be named: none is left to choose from".to_owned(),
    })?;
    planner.subnets.push(subnet.cidr());
    Ok(subnet)
}
