//! The command line of `gatekey-server`.

mod admin;
mod bulk;
mod first_password;
mod os_user;
mod projections;
mod serve;

use clap::{Parser, Subcommand};
use gatekey_aggregates::values::Username;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{Config, Options};
use crate::first_start::ADMIN;
use crate::{app, logging};

/// The control plane of a zero-trust VPN
#[derive(Debug, Parser)]
#[command(name = "gatekey-server", version)]
struct Cli {
    /// A TOML file with settings; `gatekey.example.toml` explains them all
    #[arg(long, global = true, env = "GATEKEY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (also without a command)
    Serve,
    /// What an operator does when nobody can sign in any more
    #[command(subcommand)]
    Admin(AdminCommand),
    /// The views that queries read
    #[command(subcommand)]
    Projections(ProjectionsCommand),
    /// Write the configuration as YAML: gateways, networks, access rules, who has what, and
    /// settings, but neither people nor secrets
    ///
    /// The same configuration gives the same text, in which everything is called by its name: keep
    /// it in git. It may run beside a running server.
    Export {
        /// Write it to this file instead of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Make the configuration what a file says that `export` has written, or a person
    ///
    /// Shows the difference first: `+` is added, `~` is changed, `-` is removed, `=` is not in the
    /// file and stays. Things are found by their names: under another name it is another thing. A
    /// field that is left out gets its default. Users are named by their user name or e-mail address
    /// and must be there. All that is wrong with a file is told before anything is written. What is
    /// so already is left alone, so that an import that was broken off can be run again.
    ///
    /// On PostgreSQL it may run beside running servers. A server on SQLite must be stopped first,
    /// but not for `--dry-run`.
    ///
    /// Ends with 0 when all is as the file says, with 1 when it can't be, and with 2 when a dry run
    /// has found a difference (or when the command line can't be read).
    Import(bulk::Import),
    /// Print the OpenAPI document
    Openapi,
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Give an admin a new password and show it once (a server on SQLite must be stopped for it)
    ResetPassword {
        /// Whose
        #[arg(long, default_value = ADMIN, value_name = "NAME")]
        username: Username,
        /// Take the new password from the first line of standard input, instead of making one
        #[arg(long)]
        password_stdin: bool,
    },
}

#[derive(Debug, Subcommand)]
enum ProjectionsCommand {
    /// Fill a view, or all of them, anew from the log
    Rebuild {
        /// Which
        name: Option<String>,
    },
}

/// Does what the command line says.
pub fn run() -> Result<ExitCode, Box<dyn Error>> {
    let cli = Cli::parse();
    let config = || -> Result<Config, Box<dyn Error>> {
        let config = Config::load(cli.options, cli.config.as_deref())?;
        logging::start(&config)?;
        Ok(config)
    };
    let done = match cli.command.unwrap_or(Command::Serve) {
        Command::Export { output } => return block_on(bulk::export(config()?, output)),
        Command::Import(import) => return block_on(bulk::import(config()?, import)),
        Command::Serve => block_on(serve::serve(config()?)),
        Command::Admin(AdminCommand::ResetPassword { username, password_stdin }) => {
            let given =
                password_stdin.then(|| admin::read_password(std::io::stdin())).transpose()?;
            block_on(admin::reset_password(config()?, username, given))
        }
        Command::Projections(ProjectionsCommand::Rebuild { name }) => {
            block_on(projections::rebuild_views(&config()?, name))
        }
        Command::Openapi => print(&serde_json::to_string_pretty(&app::document()?)?),
        Command::Version => print(&format!("gatekey-server {}", env!("CARGO_PKG_VERSION"))),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn block_on<T>(work: impl Future<Output = Result<T, Box<dyn Error>>>) -> Result<T, Box<dyn Error>> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Unlike `println!` it does not panic when the reader has gone away.
fn print(text: &str) -> Result<(), Box<dyn Error>> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_options_may_stand_before_or_behind_it() {
        for line in [
            &["gatekey-server", "--listen", "127.0.0.1:0"][..],
            &["gatekey-server", "serve", "--listen", "127.0.0.1:0"],
            &["gatekey-server", "--listen", "127.0.0.1:0", "serve"],
        ] {
            let cli = Cli::parse_from(line);
            assert!(matches!(cli.command, None | Some(Command::Serve)));
            assert_eq!(cli.options.listen, Some("127.0.0.1:0".parse().unwrap()));
        }
    }

    #[test]
    fn secrets_have_no_flags() {
        let help = Cli::command().render_long_help().to_string();
        for name in ["--admin-password", "--master-key", "--metrics-token"] {
            assert!(!help.contains(name), "{name}");
            assert!(Cli::try_parse_from(["gatekey-server", name, "x"]).is_err());
        }
    }
}
