//! A mesh, for real: stock OpenVPN as the hub, as a site's router and at a person's, each configured by
//! what the control plane gives and nothing else.

use crate::harness::fixtures::{block, serials_in_crl};
use crate::harness::netns::{self, HUB_WAN, MeshLab, SITE_HOST, SITE_NETS};
use crate::harness::openvpn::{Client, HubMachine};
use crate::harness::wait::{eventually, wait_for};
use serde_json::{Value, json};
use std::time::Duration;

const UP: &str = "Initialization Sequence Completed";
const SOON: Duration = Duration::from_secs(10);

both! {
    async fn a_member_reaches_a_site_through_the_hub(world: World) {
        if let Some(lacking) = netns::lacking() {
            println!("skipped: {lacking}");
            return;
        }
        let lab = MeshLab::new();
        let admin = world.admin().await;
        let ada = admin.create_user("ada").await;
        let hub = admin.create_hub_with("europe", json!({"public_endpoint": HUB_WAN})).await;
        let spoke = admin.create_spoke(&hub, "berlin", &SITE_NETS).await;
        admin.grant_hub(&hub, &ada).await;
        let crl = || async { world.anyone().get("/pki/crl.pem").await.has_status(200).text() };

        let path = format!("/admin/mesh/hubs/{hub}/provision");
        let provisioned = admin.post(&path, &Value::Null).await.ok();
        let machine = HubMachine::start(&lab.hub, &provisioned, &crl().await);
        let path = format!("/admin/mesh/spokes/{spoke}/generate-config");
        let router = admin.post(&path, &json!({})).await.created();
        let router = Client::at(&lab.spoke, router["profile"].as_str().unwrap());
        let router = router.dial();
        router.says(&[UP]);
        // It is told nothing of its own networks, or it would lose them.
        let routes = lab.spoke.run("ip route; ip -6 route");
        for network in SITE_NETS {
            let to_it: Vec<_> = routes.lines().filter(|it| it.starts_with(network)).collect();
            assert!(to_it.len() == 1 && to_it[0].contains("dev lan"), "{network}: {routes}");
        }

        // Ada reaches the host at the site, in both families.
        let config = ada.api.generate_mesh_config(&hub).await;
        let client = Client::at(&lab.member, &config.profile);
        let tunnel = client.dial();
        tunnel.says(&[UP]);
        for host in SITE_HOST {
            wait_for(&format!("{host} answers"), SOON, || lab.member.pings(host).then_some(()));
        }
        tunnel.stop();

        // Her certificate for a gateway opens no hub, though the same authority signed it.
        let gateway = admin.create_gateway("us-east-1").await;
        admin.grant(&gateway, &ada).await;
        let other = ada.api.generate_config(&gateway).await;
        let swap = |profile: String, tag| {
            profile.replace(block(&config.profile, tag), block(&other.profile, tag))
        };
        let mixed = swap(swap(config.profile.clone(), "cert"), "key");
        let refused = Client::at(&lab.member, &mixed);
        let refused = refused.dial();
        machine.openvpn().says(&["VERIFY X509NAME ERROR"]);
        assert!(!refused.said().contains(UP), "{}", refused.said());
        drop(refused);

        // Ungranted: her certificate is on the list, and the hub lets her in no more.
        admin.delete(&format!("/admin/mesh/hubs/{hub}/users/{}", ada.id)).await.ok();
        let revoked = eventually("the list has the certificate", SOON, || async {
            let pem = crl().await;
            let (_, der) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
            serials_in_crl(&der.contents).contains(&config.serial).then_some(pem)
        })
        .await;
        machine.put_crl(&revoked);
        let refused = client.dial();
        machine.openvpn().says(&["certificate revoked"]);
        assert!(!refused.said().contains(UP), "{}", refused.said());
        // The site is joined as before.
        assert!(lab.hub.pings(SITE_HOST[0]));
    }
}
