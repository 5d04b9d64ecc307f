//! `xebec snapshot`: backups saved, looked at and restored.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use raft_store::{RestoreOptions, SnapshotStatus, restore, snapshot_status};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::maintenance_client::MaintenanceClient;

use crate::cli::snapshot::{
    FileStatusArgs, RestoreArgs, SaveArgs, SnapshotArgs, SnapshotCommand, WriteOut,
};

pub async fn run(args: SnapshotArgs) -> Result<()> {
    match args.command {
        SnapshotCommand::Save(args) => save(args).await,
        SnapshotCommand::Status(args) => {
            let status = snapshot_status(&args.file)?;
            // Whoever reads it may have gone.
            let _ = writeln!(std::io::stdout().lock(), "{}", show(&args, status));
            Ok(())
        }
        SnapshotCommand::Restore(args) => {
            tokio::task::spawn_blocking(|| restore_file(args)).await?
        }
    }
}

/// Saves beside the file, checks what came, and only then gives it its name.
async fn save(args: SaveArgs) -> Result<()> {
    let mut client = MaintenanceClient::new(connect(&args).await?);
    let answer = client.snapshot(pb::SnapshotRequest {}).await;
    let mut stream = answer.context("the member gives no snapshot")?.into_inner();
    let mut part = args.file.clone().into_os_string();
    part.push(".part");
    let part = Path::new(&part);
    let cannot = || format!("cannot write {}", part.display());
    let mut file = File::create(part).with_context(cannot)?;
    while let Some(message) = stream.message().await.context("the stream broke off")? {
        file.write_all(&message.blob).with_context(cannot)?;
    }
    file.sync_all().with_context(cannot)?;
    let status = match snapshot_status(part) {
        Ok(status) => status,
        Err(error) => {
            // Nobody must take it for a backup.
            let _ = fs::remove_file(part);
            return Err(error).context("what came is not a whole snapshot");
        }
    };
    fs::rename(part, &args.file)
        .with_context(|| format!("cannot write {}", args.file.display()))?;
    eprintln!(
        "Snapshot saved at {}: revision {}, {}",
        args.file.display(),
        status.revision,
        human(status.total_size)
    );
    Ok(())
}

async fn connect(args: &SaveArgs) -> Result<Channel> {
    let url = &args.endpoints;
    ensure!(
        !url.contains(','),
        "snapshot must be requested to one selected node, not multiple {url}"
    );
    let url = match url.contains("://") {
        true => url.clone(),
        false => format!("http://{url}"),
    };
    let mut endpoint = Channel::from_shared(url.clone()).context("--endpoints")?;
    if url.starts_with("https://") {
        endpoint = endpoint.tls_config(tls(args)?)?;
    }
    let connected = endpoint.connect().await;
    connected.with_context(|| format!("cannot connect to {url}"))
}

fn tls(args: &SaveArgs) -> Result<ClientTlsConfig> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut tls = ClientTlsConfig::new();
    match &args.cacert {
        Some(ca) => tls = tls.ca_certificate(Certificate::from_pem(read(ca)?)),
        None => bail!("an https endpoint needs --cacert"),
    }
    if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
        tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    Ok(tls)
}

fn show(args: &FileStatusArgs, status: SnapshotStatus) -> String {
    let SnapshotStatus {
        hash,
        revision,
        total_key,
        total_size,
        ..
    } = status;
    match args.write_out {
        WriteOut::Simple => format!("{hash:x}, {revision}, {total_key}, {}", human(total_size)),
        WriteOut::Json => serde_json::json!({
            "hash": hash,
            "revision": revision,
            "totalKey": total_key,
            "totalSize": total_size,
        })
        .to_string(),
        WriteOut::Fields => format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {total_key}\n\"Size\" : {total_size}"
        ),
        WriteOut::Table => table([
            ("HASH", format!("{hash:x}")),
            ("REVISION", revision.to_string()),
            ("TOTAL KEYS", total_key.to_string()),
            ("TOTAL SIZE", human(total_size)),
        ]),
    }
}

/// One row as etcd's tools draw it: titles in the middle, numbers to the right.
fn table(columns: [(&str, String); 4]) -> String {
    let (mut line, mut titles, mut row) = ("+".to_owned(), "|".to_owned(), "|".to_owned());
    for (title, value) in columns {
        let width = title.len().max(value.len());
        line += &format!("{:-<1$}+", "", width + 2);
        titles += &format!(" {title:^width$} |");
        row += &match value.bytes().all(|byte| byte.is_ascii_digit()) {
            true => format!(" {value:>width$} |"),
            false => format!(" {value:<width$} |"),
        };
    }
    format!("{line}\n{titles}\n{line}\n{row}\n{line}")
}

/// A size as etcdutl shows it: powers of 1000, two digits.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit > 0 && value < 10.0 {
        true => format!("{value:.1} {}", UNITS[unit]),
        false => format!("{value:.0} {}", UNITS[unit]),
    }
}

fn restore_file(args: RestoreArgs) -> Result<()> {
    let data_dir = args
        .data_dir
        .clone()
        .unwrap_or_else(|| format!("{}.etcd", args.name).into());
    let options = RestoreOptions {
        data_dir: data_dir.clone(),
        name: args.name,
        initial_cluster: parse_cluster(&args.initial_cluster)?,
        initial_cluster_token: args.initial_cluster_token,
        initial_advertise_peer_urls: args.initial_advertise_peer_urls,
        skip_hash_check: args.skip_hash_check,
        bump_revision: i64::try_from(args.bump_revision).context("--bump-revision")?,
        mark_compacted: args.mark_compacted,
    };
    restore(&args.file, &options)?;
    eprintln!("Restored {} to {}", args.file.display(), data_dir.display());
    Ok(())
}

/// `NAME=URL,NAME=URL`; a name may be there several times.
fn parse_cluster(text: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let mut members = BTreeMap::<String, Vec<String>>::new();
    for part in text.split(',') {
        match part.split_once('=') {
            Some((name, url)) if !name.is_empty() && url.contains("://") => {
                members
                    .entry(name.to_owned())
                    .or_default()
                    .push(url.to_owned());
            }
            _ => bail!("--initial-cluster: {part:?} is not of the form NAME=URL"),
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_and_sizes_are_etcds() {
        let parsed = parse_cluster("a=http://x:1,b=http://y:1,a=http://x:2").expect("it is valid");
        assert_eq!(parsed["a"], ["http://x:1", "http://x:2"]);
        assert_eq!(parsed["b"], ["http://y:1"]);
        assert!(parse_cluster("http://x:1").is_err());
        for (bytes, expect) in [(999, "999 B"), (25_000, "25 kB"), (1_500_000, "1.5 MB")] {
            assert_eq!(human(bytes), expect);
        }
    }

    #[test]
    fn a_status_looks_as_etcdutls() {
        let status = SnapshotStatus {
            hash: 0x07ef_846e,
            revision: 485_261,
            total_key: 11_642,
            total_size: 94_000_000,
            cluster_id: 1,
        };
        let check = |write_out, expect: &str| {
            let file = "backup".into();
            assert_eq!(show(&FileStatusArgs { file, write_out }, status), expect);
        };
        check(WriteOut::Simple, "7ef846e, 485261, 11642, 94 MB");
        check(
            WriteOut::Json,
            r#"{"hash":133137518,"revision":485261,"totalKey":11642,"totalSize":94000000}"#,
        );
        check(
            WriteOut::Table,
            "+---------+----------+------------+------------+\n\
             |  HASH   | REVISION | TOTAL KEYS | TOTAL SIZE |\n\
             +---------+----------+------------+------------+\n\
             | 7ef846e |   485261 |      11642 | 94 MB      |\n\
             +---------+----------+------------+------------+",
        );
    }
}
