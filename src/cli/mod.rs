//! The command line of `gatekey-server`.

mod first_password;
mod serve;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use crate::app;
use crate::config::{Config, Options};

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
    /// Print the OpenAPI document
    Openapi,
    /// Print the version
    Version,
}

/// Does what the command line says.
pub fn run() -> Result<(), Box<dyn Error>> {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::serve(Config::load(cli.options, cli.config.as_deref())?),
        Command::Openapi => print(&serde_json::to_string_pretty(&app::document())?),
        Command::Version => print(&format!("gatekey-server {}", env!("CARGO_PKG_VERSION"))),
    }
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
