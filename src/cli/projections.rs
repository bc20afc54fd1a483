//! `projections`: the views, filled anew from the log.

use gatekey_projections::{Location, View, all_views};
use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use super::serve::{rebuild_progress, setup};
use crate::config::Config;
use crate::event_log::{Options, open, rebuild};

/// Fills the view `name`, or all of them, anew. A running server goes on meanwhile.
pub(super) async fn rebuild_views(
    config: &Config,
    name: Option<String>,
) -> Result<(), Box<dyn Error>> {
    let views = chosen(name.as_deref())?;
    let setup = setup(config)?;
    let location = Location::parse(&setup.database_url)?;
    let options = Options {
        location: location.clone(),
        master: Arc::new(setup.master),
        clock: setup.clock,
        entropy: setup.entropy,
        views: all_views().to_vec(),
    };
    let opened = open(options, rebuild_progress()).await?;
    let position = rebuild(&location, &opened.reader, &views, rebuild_progress()).await?;
    opened.db.close().await;
    let names: Vec<&str> = views.iter().map(|view| view.name()).collect();
    writeln!(std::io::stdout(), "Rebuilt {} up to position {position}", names.join(", "))?;
    Ok(())
}

fn chosen(name: Option<&str>) -> Result<Vec<&'static dyn View>, String> {
    let all = all_views();
    let Some(name) = name else { return Ok(all.to_vec()) };
    let names = || all.iter().map(|view| view.name()).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|view| view.name() == name);
    found
        .map(|view| vec![*view])
        .ok_or_else(|| format!("there is no view `{name}`; they are {}", names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_view_or_all_of_them() {
        assert_eq!(chosen(None).unwrap().len(), all_views().len());
        assert_eq!(chosen(Some("gateways")).unwrap().len(), 1);
        let Err(error) = chosen(Some("gatways")) else { panic!("a view of that name") };
        assert!(error.contains("gatways") && error.contains("gateways"), "{error}");
    }
}
