//! Logs go to standard error; level and format are flags.

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::cli::{LogArgs, LogFormat};

/// Installs the process's only subscriber.
pub fn init(args: &LogArgs) -> Result<()> {
    // openraft tells developers every step at `info`; who wants to know names it.
    let quiet = if args.log_level.contains("openraft") {
        ""
    } else {
        "openraft=error,"
    };
    let filter = EnvFilter::try_new(format!("{quiet}{}", args.log_level))
        .with_context(|| format!("--log-level: {} is no level and no filter", args.log_level))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
