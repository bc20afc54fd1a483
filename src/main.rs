//! `gatekey-server`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: whatever speaks TLS takes this one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("gatekey-server: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    match gatekey::cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gatekey-server: {error}");
            ExitCode::FAILURE
        }
    }
}
