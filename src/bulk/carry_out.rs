//! Doing what was planned, one command after the other.

use super::plan::{Change, Plan, Token, Verb};
use crate::event_log::Bus;
use gatekey_aggregates::Metadata;
use std::fmt;
use std::io;

/// Most things that are named when an import stops.
const MAX_NAMED: usize = 20;

/// What an import has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How many are new.
    pub added: usize,
    /// How many were changed.
    pub changed: usize,
    /// How many are gone.
    pub removed: usize,
}

/// An import that came to a stop half-way. What it has done stays done.
#[derive(Debug)]
pub struct Stopped {
    at: String,
    why: String,
    done: Vec<String>,
    partly: Option<String>,
    left: Vec<String>,
}

impl Plan {
    /// Carries it out. `progress` hears of each command; `tell` gets the tokens of new gateways.
    pub async fn carry_out(
        self,
        bus: &Bus,
        metadata: &Metadata,
        progress: impl Fn(),
        mut tell: impl FnMut(&Token) -> io::Result<()>,
    ) -> Result<Done, Stopped> {
        let mut done = Done::default();
        let names: Vec<String> = self.changes.iter().map(signed).collect();
        for (n, change) in self.changes.into_iter().enumerate() {
            for (m, mut step) in change.steps.into_iter().enumerate() {
                let (at, token) = (step.what.clone(), step.token.take());
                let stopped = |why: String, begun: bool| Stopped {
                    at,
                    why,
                    done: names.iter().take(n).cloned().collect(),
                    partly: names.get(n).filter(|_| begun).cloned(),
                    left: names.iter().skip(n + usize::from(begun)).cloned().collect(),
                };
                if let Err(error) = step.run(bus, metadata).await {
                    return Err(stopped(error.to_string(), m > 0));
                }
                if let Some(token) = token
                    && let Err(error) = tell(&token)
                {
                    let why = format!("its token could not be written down ({error}): rotate it");
                    return Err(stopped(why, true));
                }
                progress();
            }
            match change.verb {
                Verb::Add => done.added += 1,
                Verb::Change => done.changed += 1,
                Verb::Remove => done.removed += 1,
            }
        }
        Ok(done)
    }
}

fn signed(change: &Change) -> String {
    let sign = match change.verb {
        Verb::Add => '+',
        Verb::Change => '~',
        Verb::Remove => '-',
    };
    format!("{sign} {}", change.called)
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, changed, removed } = self;
        write!(f, "Done: {added} added, {changed} changed, {removed} removed")
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the import stopped at `{}`: {}", self.at, self.why)?;
        let partly: Vec<String> = self.partly.iter().cloned().collect();
        for (title, names) in
            [("done", &self.done), ("done in part", &partly), ("not done", &self.left)]
        {
            if names.is_empty() {
                continue;
            }
            writeln!(f, "{title}:")?;
            for name in names.iter().take(MAX_NAMED) {
                writeln!(f, "  {name}")?;
            }
            if names.len() > MAX_NAMED {
                writeln!(f, "  and {} more", names.len() - MAX_NAMED)?;
            }
        }
        write!(f, "run it again: it goes on from what is there then")
    }
}

impl std::error::Error for Stopped {}
